"""EcoTTA+ (ours): as light as EcoTTA, no source data needed, and no decay on long drives."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional, Union

import torch
from torch import Tensor, nn

from .adaptive_batch_norm import AdaptiveBatchNorm2d
from .drift_gate import DriftGate, DriftMeter, drift_norms
from .ecotta import MetaNetworkAdaptation
from .losses import class_balanced_weights
from .reduced_frame import reduced_frame
from .registry import ADAPTATION_METHODS

_PROBE_SCALE = 0.5


@ADAPTATION_METHODS.register_module(name='ecotta_plus')
class AnchoredMetaNetworks(MetaNetworkAdaptation):
    """Meta networks with an identity start, gated by drift, that are pulled to where they began.

    What differs from EcoTTA (arXiv 2303.01904):

    - The meta networks act as far as the stream has drifted from the source's domain (see
      ``DriftGate``). On a clear day the model is the source, whatever it learned in the fog; so
      rates can be such that it learns something in the fog. Where BatchNorms come before the first
      meta network's output (ResNets) they tell the strength for the next frame; elsewhere
      (SegFormer, whose BatchNorms are in the head) the frozen model is run on each frame at half
      its size first, a quarter of an inference, and tells the strength for this one. The weight of
      the frozen norms is gated likewise: above 1 only as far as the strength lets it.
    - The entropy of confident pixels is averaged class by class: road and buildings do not drown
      what is small, which is what a plain mean lets die first.
    - After every update the parameters go back a little towards their start. A sum of steps that
      would grow without end becomes a mean over the last ``1 / restore_rate`` frames.

    Args:
        segmentor: The source model.
        restore_rate: Share of the way back to the start that is gone after each update, 0 to 1.
        class_balance: Exponent of the class weights: 0 for the plain mean over pixels, 1 for
            equal weight to each class that the frame holds.
        drift_gate: ``half`` and ``exponent`` of ``DriftGate``; None lets the meta networks act
            always. It needs an identity start and norms of mode 'drift'; a model without any
            BatchNorm has them act always, too.
        **options: See ``MetaNetworkAdaptation``.

    Raises:
        ValueError: An option is out of range, or the gate does not go with the meta networks or
            the norms; see also base class.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        restore_rate: float = 0.01,
        class_balance: float = 0.5,
        drift_gate: Optional[dict] = None,
        **options,
    ) -> None:
        if not 0 <= restore_rate <= 1 or not 0 <= class_balance <= 1:
            raise ValueError(
                'expected restore_rate and class_balance from 0 to 1, got '
                f'{restore_rate} and {class_balance}'
            )
        super().__init__(segmentor, **options)
        self.restore_rate, self.class_balance = restore_rate, class_balance
        self.drift_gate: Optional[DriftGate] = None
        if drift_gate is not None:
            if any(module.start != 'identity' for module in self.encoder.meta_networks):
                raise ValueError(
                    "a drift gate needs meta networks that can be left out: set start='identity', "
                    'or drift_gate=None'
                )
            norms = [m for m in segmentor.modules() if isinstance(m, AdaptiveBatchNorm2d)]
            if len(norms) != len(self.drift_meter.norms):
                raise ValueError(
                    "a drift gate reads what norms of mode 'drift' measure: set "
                    "frozen_norm=dict(mode='drift'), or drift_gate=None"
                )
            first = drift_norms(*self.encoder.units.first_modules(self.encoder.parts[0].stop))
            meter = DriftMeter(first or self.drift_meter.norms)
            self.drift_gate = DriftGate.from_options(meter, drift_gate)
            self._norm_weights = [(norm, norm.blend_weight) for norm in norms]
            self._probes = bool(norms) and not first
            # A buffer, so that it is saved, gone back to and shared as what is learned is.
            self.register_buffer('strength', self.drift_gate.at_first(), persistent=False)

    def adapt(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        with self._gated(inputs, metas):
            return super().adapt(inputs, metas)

    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        if self.drift_gate is not None:
            self._act_by(self.strength)
        return super().predict(inputs, metas)

    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        with self._gated(inputs, metas):
            return super().predict_frame(inputs, metas)

    @contextmanager
    def _gated(self, inputs: Tensor, metas: list[dict]) -> Iterator[None]:
        """Around the stream's next frame."""
        gate = self.drift_gate
        if gate is None:
            yield
        elif self._probes:
            # The same for every frame, whatever the strength was at the last.
            self._act_by(0.0)
            with torch.no_grad(), self.encoder.bypass(), gate.meter.listening():
                super().predict(*reduced_frame(inputs, metas, _PROBE_SCALE))
            self.strength.copy_(gate.strength())
            self._act_by(self.strength)
            yield
        else:
            self._act_by(self.strength)
            with gate.meter.listening():
                yield
            self.strength.copy_(gate.strength())

    def _act_by(self, strength: Union[Tensor, float]) -> None:
        strength = float(strength)
        for module in self.encoder.meta_networks:
            module.strength = strength
        for norm, weight in self._norm_weights:
            norm.blend_weight = weight * strength + min(weight, 1.0) * (1 - strength)

    def pixel_weights(self, entropy: Tensor, logits: Tensor) -> Tensor:
        """See base class."""
        return class_balanced_weights(entropy, logits, self.entropy_threshold, self.class_balance)

    def after_update(self) -> None:
        """See base class: the pull back."""
        self.restore()

    @torch.no_grad()
    def restore(self) -> None:
        """Moves every parameter ``restore_rate`` of the way to its start."""
        for name, parameter in self.adaptable_parameters().items():
            parameter.lerp_(self._initial[name], self.restore_rate)

    @torch.no_grad()
    def reset(self) -> None:
        """See base class: the stream is taken for the source's own again."""
        super().reset()
        if self.drift_gate is not None:
            self.strength.copy_(self.drift_gate.at_first())
