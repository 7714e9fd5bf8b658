"""EcoTTA+ (ours): EcoTTA without source data and without decay on long drives."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean, pstdev
from typing import Optional, Union

import torch
from torch import Tensor, nn

from ..inference.padding import padding_of, without_padding
from ..inference.reduced_frame import reduced_frame
from ..layers.adaptive_batch_norm import AdaptiveBatchNorm2d
from ..layers.calibrated_batch_norm import (
    ESTIMATED_DRIFT,
    CalibratedBatchNorm2d,
    calibrated_norms,
)
from ..layers.drift_meter import DriftMeter, drift_norms
from ..layers.exposure import Exposure
from ..layers.losses import class_balanced_weights
from ..layers.prediction_statistics import entropy_share
from ..layers.shift_gate import ShiftGate
from ..registry import ADAPTATION_METHODS
from .ecotta import EcoTTA

_PROBE_SCALE = 0.5
# The indices of ``usual_values``, its values without a calibration (docs/tuning.md), and a lower
# limit of the calibrated values.
DRIFT, ENTROPY, TARGET = range(3)
_ESTIMATED_DRIFT, _ESTIMATED_ENTROPY = 0.07, 0.13
_LEAST = 1e-3
# A frame is worth a step if its strength is at least this.
_OPEN = 0.5


@ADAPTATION_METHODS.register_module(name='ecotta_plus')
class EcoTTAPlus(EcoTTA):
    """EcoTTA with a shift gate, whose parameters are pulled back towards their initial values.

    Differences from EcoTTA (arXiv 2303.01904):

    - Before the stream, ``calibrate`` measures the network's usual drift and entropy on clear
      frames. All limits are multiples of these values.
    - The further a frame is from the source domain, the more the meta networks act (see
      ``ShiftGate``). On a clear day they hardly act, so the predictions stay close to the source's.
      The strength of the meta networks is computed for each frame, so conditions may change from
      frame to frame. For the strength, the frozen model runs on the frame at half size, which takes
      a quarter of the operations of an inference. If a norm of mode 'drift' has a weight above 1,
      the weight becomes 1 + strength * (weight - 1).
    - The entropy of confident pixels is averaged class by class. In a plain mean over pixels, road
      and buildings outweigh small classes, and the model stops predicting small classes.
    - After every update the parameters move back by a small share of the distance to their initial
      values. So the total change stays bounded: it is about the sum of the latest steps, as many as
      ``1 / restore_rate``.
    - The model stays within a radius of the frozen model (see ``trust_radius``). Entropy
      minimisation favours classes with many confident pixels. Without the limit, frequent classes
      replace the others in the prediction.
    - Dark frames are brightened first, if a ``brightness`` is set (see ``Exposure``).

    Args:
        segmentor: The source model.
        restore_rate: Share of the distance to the initial values by which the parameters move back
            after each update, 0 to 1.
        class_balance: Exponent of the class weights: 0 for the plain mean over pixels, 1 for
            equal weight to each class in the frame.
        shift_gate: Options of ``ShiftGate``; with None the meta networks always have full strength.
            A gate needs meta networks with an identity start, and all norms must have mode 'drift'
            or 'calibrated'. In a model without any BatchNorm the gate uses the entropy alone.
        trust_radius: Upper limit of Σ_k R_k, above 0. After a frame above the limit, the parameters
            move back by the share 1 - ``trust_radius`` / Σ_k R_k if that is above
            ``restore_rate``. A few such steps bring the model back below the limit. None for no
            limit.
        brightness: See ``Exposure``; with None frames are not brightened. A calibration replaces
            the target brightness by one that it measures on clear frames.
        **options: See ``EcoTTA``.

    Raises:
        ValueError: An option is out of range, or the gate does not fit the meta networks or the
            norms; see also base class.
    """

    calibrated_buffers = ('usual_values',)

    def __init__(
        self,
        segmentor: nn.Module,
        restore_rate: float = 0.01,
        class_balance: float = 0.5,
        shift_gate: Optional[dict] = None,
        trust_radius: Optional[float] = None,
        brightness: Optional[float] = None,
        **options,
    ) -> None:
        if not 0 <= restore_rate <= 1 or not 0 <= class_balance <= 1:
            raise ValueError(
                'expected restore_rate and class_balance from 0 to 1, got '
                f'{restore_rate} and {class_balance}'
            )
        if trust_radius is not None and not trust_radius > 0:
            raise ValueError(f'expected trust_radius above 0, or None, got {trust_radius}')
        super().__init__(segmentor, **options)
        self.trust_radius = trust_radius
        self.restore_rate, self.class_balance = restore_rate, class_balance
        self.exposure: Optional[Exposure] = None
        if brightness is not None:
            self.exposure = Exposure(segmentor.data_preprocessor, brightness)
        like = next(self.encoder.meta_networks.parameters())
        self.shift_gate: Optional[ShiftGate] = None
        if shift_gate is not None:
            if any(module.start != 'identity' for module in self.encoder.meta_networks):
                raise ValueError(
                    "a shift gate needs meta networks that can be left out: set start='identity', "
                    'or shift_gate=None'
                )
            norms = [m for m in segmentor.modules() if isinstance(m, AdaptiveBatchNorm2d)]
            drifting = drift_norms(segmentor)
            if len(norms) != len(drifting):
                raise ValueError(
                    "a shift gate reads what norms of mode 'calibrated' or 'drift' measure: set "
                    "frozen_norm=dict(mode='calibrated'), or shift_gate=None"
                )
            self.shift_gate = ShiftGate.from_options(shift_gate)
            self.probe_scale = _PROBE_SCALE
            self._probe_meter = DriftMeter(drifting)
            self._only_whole: set[tuple[int, ...]] = set()
            # The strength does not change the weights of calibrated norms: their own drift does.
            self._norm_weights = [
                (norm, norm.blend_weight)
                for norm in norms
                if not isinstance(norm, CalibratedBatchNorm2d)
            ]
            # A buffer, so that the strength is saved, rolled back and shared like learned tensors.
            # Before the first frame the stream counts as the source domain.
            self.register_buffer('strength', like.new_zeros(()), persistent=False)
            # Whether the strength was already computed for the next frame (by ``worth_learning``).
            self._gated = False
        target = 0.0 if self.exposure is None else self.exposure.target
        drift = _ESTIMATED_DRIFT / (ESTIMATED_DRIFT if calibrated_norms(segmentor) else 1.0)
        usual = like.new_tensor([drift, _ESTIMATED_ENTROPY, target])
        # Values on clear frames; before ``calibrate``, estimates of them. In this order: the mean
        # drift of the norms in the run at half size, the mean entropy of that run as a share of ln
        # C, and the exposure's target.
        self.register_buffer('usual_values', usual, persistent=False)

    def prepare(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        if self.exposure is None:
            return inputs
        target = float(self.usual_values[TARGET])
        return self.exposure.brighten_(inputs, *padding_of(inputs, metas[0]), target)

    @property
    def uses_clear_frames(self) -> bool:
        """See base class."""
        gated = self.shift_gate is not None or self.exposure is not None
        return gated or super().uses_clear_frames

    @torch.no_grad()
    def calibrate(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """See base class. Measures the exposure's target, the usual drift and the usual entropy.

        A frame counts as dark if its brightness is more than one standard deviation below the
        mean of the clear frames.
        """
        if not frames:
            return
        if self.exposure is not None:
            seen = [
                self.exposure.brightness(inputs[0][(slice(None), *padding_of(inputs, metas[0]))])
                for inputs, metas in frames
            ]
            self.usual_values[TARGET] = fmean(seen) - pstdev(seen)
        frames = [(self.prepare(inputs.clone(), metas), metas) for inputs, metas in frames]
        super().calibrate(frames)
        if self.shift_gate is not None:
            self._act_by(0.0)
            seen = [self._shift(inputs, metas) for inputs, metas in frames]
            drifts, entropies = zip(*seen)
            if drifts[0] is not None:
                self.usual_values[DRIFT] = max(fmean(drifts), _LEAST)
            self.usual_values[ENTROPY] = max(fmean(entropies), _LEAST)

    @property
    def probe_norms(self) -> list[AdaptiveBatchNorm2d]:
        """The norms whose drift the gate reads."""
        return [] if self.shift_gate is None else self._probe_meter.norms

    @property
    def gated_norms(self) -> list[tuple[AdaptiveBatchNorm2d, float]]:
        """The norms whose weight depends on the strength, each with its weight at strength 1."""
        return [] if self.shift_gate is None else self._norm_weights

    def probes_whole(self, inputs: Tensor) -> bool:
        """Whether the model cannot run on frames (N, 3, H, W) of this size at half size."""
        return tuple(inputs.shape[2:]) in self._only_whole

    def worth_learning(self, inputs: Tensor, metas: list[dict]) -> bool:
        """See base class. True if the strength is at least 0.5, or if there is no gate."""
        if self.shift_gate is None:
            return True
        self._gate(inputs, metas)
        self._gated = True
        return float(self.strength) >= _OPEN

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        self._gate(inputs, metas)
        return super().propose(inputs, metas)

    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        if self.shift_gate is not None:
            self._act_by(self.strength)
        return super().predict(inputs, metas)

    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        self._gate(inputs, metas)
        return super().predict_frame(inputs, metas)

    def other_views(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """See base class. The views are predicted before the frame, with the frame's strength."""
        if self.views > 1:
            self._gate(inputs, metas)
        return super().other_views(inputs, metas)

    @contextmanager
    def adaptation_disabled(self) -> Iterator[None]:
        """See base class. On exit the strength is that of the stream's last frame again."""
        before = None if self.shift_gate is None else self.strength.clone()
        with super().adaptation_disabled():
            yield
        if before is not None:
            self.strength.copy_(before)

    def _gate(self, inputs: Tensor, metas: list[dict]) -> None:
        """Runs the frozen model on the stream's next frame and sets the strength for this frame."""
        if self.shift_gate is None:
            return
        gated, self._gated = self._gated, False
        if gated:
            return
        # Start each frame from strength 0, whatever the last frame's strength was.
        self._act_by(0.0)
        drift, entropy = self._shift(inputs, metas)
        if drift is not None:
            drift /= float(self.usual_values[DRIFT])
        entropy /= float(self.usual_values[ENTROPY])
        self.strength.fill_(self.shift_gate.strength(drift, entropy))
        self._act_by(self.strength)

    @torch.no_grad()
    def _shift(self, inputs: Tensor, metas: list[dict]) -> tuple[Optional[float], float]:
        """The drift (None without norms) and the entropy of the frozen model on a frame."""
        with self._probe_meter.listening():
            logits = self._probe(inputs, metas)
        return self._probe_meter.mean(), entropy_share(logits)

    def _probe(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """The frozen model's logits for a frame at half size, without padding.

        If the model cannot run at half size (a BEiT accepts one size only, a UNet multiples of
        16), the frame keeps its size.
        """
        if self.engine is not None:
            # The memory budget applies to this run, too, and may be below the memory of plain
            # inference.
            reduced = reduced_frame(inputs, metas, self.probe_scale)
            return without_padding(self.engine.predict_frozen(*reduced), reduced[1])
        size = tuple(inputs.shape[2:])
        with self.encoder.bypass():
            if size not in self._only_whole:
                try:
                    reduced = reduced_frame(inputs, metas, self.probe_scale)
                    return without_padding(super().predict(*reduced), reduced[1])
                except (AssertionError, RuntimeError, ValueError):
                    # If the frame or the model has a real fault, the run at full size raises again.
                    self._only_whole.add(size)
            return without_padding(super().predict(inputs, metas), metas)

    def _act_by(self, strength: Union[Tensor, float]) -> None:
        if isinstance(strength, Tensor) and strength.is_meta:
            # In a dry run the strength has no value: take the general case, between 0 and 1.
            strength = 0.5
        strength = float(strength)
        for module in self.encoder.meta_networks:
            module.strength = strength
        for norm, weight in self._norm_weights:
            norm.blend_weight = weight * strength + min(weight, 1.0) * (1 - strength)

    def pixel_weights(self, entropy: Tensor, logits: Tensor) -> Tensor:
        """See base class."""
        return class_balanced_weights(entropy, logits, self.entropy_threshold, self.class_balance)

    def after_update(self) -> None:
        """See base class. Moves the parameters back, further if Σ_k R_k is above the radius."""
        share, distance = self.restore_rate, self.last_step.regularisation
        if self.trust_radius is not None and distance > self.trust_radius:
            share = max(share, 1 - self.trust_radius / distance)
        self.restore(share)

    @torch.no_grad()
    def restore(self, share: float) -> None:
        """Moves each parameter towards its initial value by a share of the distance, 0 to 1."""
        for name, parameter in self.adaptable_parameters().items():
            parameter.lerp_(self._initial[name], share)

    @torch.no_grad()
    def reset(self) -> None:
        """See base class; the strength returns to 0."""
        super().reset()
        if self.shift_gate is not None:
            self.strength.zero_()
            self._gated = False
