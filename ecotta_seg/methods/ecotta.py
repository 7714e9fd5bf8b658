"""EcoTTA: meta networks on a frozen segmentor, confident entropy, self-distilled regularisation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import log
from typing import Optional, Union

from torch import Tensor, nn

from ..inference.windows import over_windows
from ..layers.calibrated_batch_norm import (
    calibrate_norms,
    calibrated_norms,
    following,
    stream_kept,
)
from ..layers.calibrated_features import measuring_source
from ..layers.losses import (
    ConfidentEntropy,
    confident_weights,
    self_distilled_regularisation,
    weighted_entropy,
)
from ..memory.engine import (
    GradientAccumulator,
    MemoryEngine,
    OptimizerInBackward,
    Planner,
    unsupported_reason,
)
from ..memory.frozen_graph import replace_convolutions
from ..memory.lean.autograd_ops.frame_region import of_frame
from ..meta_networks import LadderEncoder, load_adapters
from ..meta_networks.prepare import prepare_meta_networks
from ..registry import ADAPTATION_METHODS
from .gradient_adaptation import GradientAdaptation
from .step_record import StepRecord


@ADAPTATION_METHODS.register_module(name='ecotta')
class EcoTTA(GradientAdaptation):
    """Minimises 1[H < H0] H + λ Σ_k R_k over the meta networks (EcoTTA, arXiv 2303.01904, Eq. 4).

    Args:
        segmentor: The source model.
        meta_networks: Options of ``AdaptedEncoder`` and ``MetaNetwork``. With ``ladder=True`` the
            encoder is a ``LadderEncoder``. On a backbone without a description the encoder is an
            ``OutputEncoder``.
        optimizer: A config of a torch optimizer.
        entropy_threshold: H0 as a multiple of ln C (0.4 in the paper).
        regularisation_weight: λ (0.25 to 0.5 in the paper).
        relative_regularisation: If True, R_k is divided by mean |x_k|. One λ then suits models
            whose features differ in magnitude.
        regularisation_smoothing: See ``self_distilled_regularisation``; 0 for the paper's L1.
        frozen_norm: ``mode`` of ``replace_batch_norms`` for the frozen model's BatchNorms, and
            the mode's options. The paper does not say which statistics they use.
        fast_convolutions: If True, ``frozen_graph/fast_conv.py`` runs the frozen model's wide
            convolutions, with or without the memory engine. These convolutions are faster on a CPU
            and round differently, so a model with an identity start equals the source only up to
            rounding.
        adapters: File of warmed-up meta networks; None for their initial values.
        memory_engine: If True, ``MemoryEngine`` runs the step: it computes the same gradients with
            a fraction of the memory. False means plain autograd. ``autocast`` always uses plain
            autograd, and so do models that the engine does not support (see ``unsupported_reason``;
            ``fallbacks`` names the cause).
        memory_budget: Maximum memory of a step without parameters and adapters, but with gradients
            and the optimizer's state: ``'600MB'``, or ``'1.0x'`` times the peak of stock
            inference on the same frame. None for the fastest step. Without the engine a step
            recomputes modules until it fits, see ``RecomputePlanner``.

    Raises:
        ValueError: An option is unknown or out of range, or the adapters do not fit. Also raised on
            the first frame of a size if no plan meets the memory budget.
        TypeError: There is no backbone, or meta networks cannot be attached to it.

    Attributes:
        unsupported_reason: The part of the model that the engine does not support. None if the
            engine supports the model, or if ``memory_engine`` is False.
        probe_scale: Some subclasses run the frozen model on a reduced frame before the step. This
            is the scale of that frame's sides; None if there is no such run.
        kept_calibration: The calibration in the file of adapters, if the file has one.
    """

    probe_scale: Optional[float] = None
    kept_calibration: Optional[dict[str, Tensor]] = None

    def __init__(
        self,
        segmentor: nn.Module,
        meta_networks: dict,
        optimizer: dict,
        entropy_threshold: float = 0.4,
        regularisation_weight: float = 0.5,
        relative_regularisation: bool = False,
        regularisation_smoothing: float = 0.0,
        frozen_norm: Optional[dict] = None,
        fast_convolutions: bool = False,
        adapters: Optional[str] = None,
        memory_engine: bool = True,
        memory_budget: Union[str, int, float, None] = None,
    ) -> None:
        super().__init__(segmentor, optimizer)
        if entropy_threshold <= 0 or regularisation_weight < 0 or regularisation_smoothing < 0:
            raise ValueError(
                'expected entropy_threshold above 0, regularisation_weight and '
                f'regularisation_smoothing from 0, got {entropy_threshold}, '
                f'{regularisation_weight} and {regularisation_smoothing}'
            )
        if fast_convolutions:
            replace_convolutions(segmentor)
        self.encoder = prepare_meta_networks(segmentor, meta_networks, frozen_norm)
        self._calibrated = calibrated_norms(segmentor)
        if adapters is not None:
            self.kept_calibration = load_adapters(self.encoder, adapters)
        self.entropy_threshold = entropy_threshold * log(segmentor.out_channels)
        self.regularisation_weight = regularisation_weight
        self.relative_regularisation = relative_regularisation
        self.regularisation_smoothing = regularisation_smoothing
        # In a ladder no gradients pass through frozen parts, so the engine would save nothing.
        memory_engine = memory_engine and not isinstance(self.encoder, LadderEncoder)
        self.unsupported_reason = unsupported_reason(segmentor) if memory_engine else None
        memory_engine = memory_engine and self.unsupported_reason is None
        self.engine: Optional[MemoryEngine] = None
        if memory_engine:
            self.engine = MemoryEngine(segmentor, relative_regularisation, regularisation_smoothing)
            self.planner = Planner(self, memory_budget)
        elif memory_budget is not None:
            self.use_memory_budget(memory_budget)
        self.start()

    def use_memory_budget(self, budget: Union[str, int, float]) -> None:
        """See base class; uses the memory engine if the method has one."""
        if self.engine is None:
            super().use_memory_budget(budget)
        else:
            self.planner = Planner(self, budget)

    def use_autocast(self, name: Optional[str]) -> None:
        """See base class.

        The step then uses plain autograd, which differentiates through casts. The engine's
        operators and planner do not support casts.
        """
        super().use_autocast(name)
        if name is not None:
            self.engine = self.planner = None

    def fallbacks(self) -> list[str]:
        """See base class. If the engine cannot run the model, the only entry is the reason."""
        if self.engine is not None:
            return self.engine.fallbacks()
        if self.unsupported_reason is None:
            return []
        return [f'whole step, for its {self.unsupported_reason}']

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class."""
        return self.adaptable_parameters()

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        with following(self._calibrated):
            # The layer weights compute gradients of their own, which need autograd's graph.
            if self.engine is not None and self.layer_weights is None:
                return self._propose_by_engine(inputs, metas)
            self._clear_record()
            with self.encoder.recording(self._regulariser) as self._terms:
                return super().propose(inputs, metas)

    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        with following(self._calibrated):
            return super().predict_frame(inputs, metas)

    @property
    def uses_clear_frames(self) -> bool:
        """See base class."""
        return bool(self._calibrated)

    def calibrate(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """See base class. Measures the statistics of the aligned features, then the usual drift."""
        super().calibrate(frames)
        with self.encoder.bypass():
            if self.encoder.aligners:
                with measuring_source(self.encoder.aligners):
                    for inputs, metas in frames:
                        super().predict(inputs, metas)
            calibrate_norms(self._calibrated, frames, super().predict)

    @contextmanager
    def adaptation_disabled(self) -> Iterator[None]:
        """See base class. On exit the norms have the statistics from before the context."""
        with super().adaptation_disabled(), stream_kept(self._calibrated):
            yield

    def reset(self) -> None:
        """See base class."""
        super().reset()
        for norm in self._calibrated:
            norm.forget()

    def _clear_record(self) -> StepRecord:
        """Sets the losses of the step's record to 0; each sliding window then adds its share."""
        record = self.last_step
        record.entropy = record.confident_fraction = record.regularisation = 0.0
        return record

    def _propose_by_engine(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        record = self._clear_record()
        self.planned = self.planner.plan_for(inputs, metas)
        plan = self.planned.plan
        deliver = (
            OptimizerInBackward(self.optimizer) if plan.update_in_place else GradientAccumulator()
        )

        def run(crop: Tensor, window_metas: list[dict], share: float) -> Tensor:
            result = self.engine.run(
                crop, window_metas, share, plan, self.pixel_weights,
                self.regularisation_weight, deliver,
            )  # fmt: skip
            record.entropy += share * float(result.entropy)
            record.confident_fraction += share * float(result.confident_fraction)
            record.regularisation += share * float(result.regularisation)
            return result.logits

        logits = over_windows(self.segmentor, inputs, metas, run)
        record.loss = record.entropy + self.regularisation_weight * record.regularisation
        if plan.update_in_place:
            # The backward has made the update, so nothing is left for ``update``.
            record.updated = True
            self.after_update()
        return logits

    def pixel_weights(self, entropy: Tensor, logits: Tensor) -> Tensor:
        """The weights of the pixels in the entropy term: 1[H < H0] / number of such pixels.

        Args:
            entropy: (N, H, W) in nats, without a graph.
            logits: (N, classes, H, W), without a graph.

        Returns:
            (N, H, W), at least 0.
        """
        return confident_weights(entropy, self.entropy_threshold)

    def _regulariser(self, frozen: Tensor, adapted: Tensor, meta_network: nn.Module) -> Tensor:
        """R_k of one part: a scalar with graph."""
        return self_distilled_regularisation(
            of_frame(adapted, meta_network.region),
            of_frame(frozen, meta_network.region),
            self.relative_regularisation,
            self.regularisation_smoothing,
        )

    def entropy_loss(self, logits: Tensor) -> ConfidentEntropy:
        """sum(weights * H) of (N, classes, h, w) logits, by plain autograd."""
        return weighted_entropy(logits, self.pixel_weights)

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class.

        R_k is differentiated with respect to meta network k alone, as in Algorithm 1. Algorithm 1
        also detaches the part's input x̃_{k-1}, which gives the same gradients: the target x_k is
        detached, and only the parameters of meta network k receive a gradient.
        """
        entropy, fraction = self.entropy_loss(logits)
        if entropy.requires_grad:
            (share * entropy).backward(retain_graph=True)
        regularisation = 0.0
        for meta_network, term in zip(self.encoder.meta_networks, self._terms):
            regularisation += float(term.detach())
            (share * self.regularisation_weight * term).backward(
                inputs=list(meta_network.parameters()), retain_graph=True
            )
        self._terms.clear()
        record = self.last_step
        record.entropy += share * float(entropy.detach())
        record.confident_fraction += share * float(fraction)
        record.regularisation += share * regularisation
        record.loss = record.entropy + self.regularisation_weight * record.regularisation
