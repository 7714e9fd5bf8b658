"""The base class of all adaptation methods: a segmentor that predicts and adapts."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Optional, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..inference.autocast import autocast_dtype, run_under_autocast, wrong_convolutions
from ..inference.mask_classification import with_logits_of_scores
from ..inference.one_logit import with_two_logits
from ..inference.views import averaged_logits, prediction_views, summed_probabilities
from ..inference.windows import predict_frames
from ..layers.calibration import CalibratedOnFrames
from ..memory.lean.autograd_ops.gelu import mend_gelus
from .frame_life import predict_and_learn, run_step
from .method_state import MethodState
from .step_record import StepRecord, device_time


def missing_methods(kind: type) -> list[str]:
    """Names of the methods that a class leaves abstract.

    Python itself refuses to instantiate such a class only if its metaclass is ``ABCMeta``, but
    ``nn.Module`` has another metaclass.
    """
    names = (name for name in dir(kind) if not name.startswith('__'))
    return [n for n in names if getattr(getattr(kind, n, None), '__isabstractmethod__', False)]


class AdaptationMethod(CalibratedOnFrames, MethodState, nn.Module):
    """Base class of the methods; an instance takes a segmentor's place in a test loop.

    Each frame takes one forward pass. This pass gives both the prediction that is returned (and
    scored) and the loss of the adaptation step. So the update by a frame never improves the frame's
    own score, unless the method ``predicts_after_update``.

    Args:
        segmentor: An mmseg ``EncoderDecoder`` with its source weights; changed in place.

    Raises:
        TypeError: A subclass does not define an abstract method, or overrides ``adapt``.
        ValueError: The parameters are in half precision.

    Attributes:
        predicts_after_update: If True, a frame is predicted again after its update, and this second
            prediction is scored. The second prediction costs one more forward pass.
        adapting: If False, ``test_step`` predicts with the parameters learned so far and learns
            nothing.
        views: Number of augmented views whose probabilities are averaged, see ``prediction_views``.
            All views are predicted before the update. The loss uses the plain frame only.
        autocast: Precision of the network's convolutions and matrix products, see
            ``use_autocast``; None for the precision of the parameters.
        last_step: The record of the latest step.
        observer: A context manager in which ``test_step`` runs, such as a ``PeakMeter``, or None.
        guard: An ``UpdateGuard`` that checks each step; None if there is no guard.
        estimate: A ``LabelFreeEstimate`` that estimates mIoU from the predictions. It may replace
            the adapted prediction by the source's. None if there is no estimate.
        estimating: If False, the estimate does not change, and its latest choice (adapted or
            source) applies to all further frames.
        compute_budget: A ``ComputeBudget`` that chooses the frames to learn from. None to learn
            from all frames.
        learned_from: (N, classes, H, W) logits of the forward pass whose loss gave the proposed
            update. They can differ from the logits that ``propose`` returns, for example if a
            student learns and a teacher predicts. The guard checks them. None between frames.
        beyond_one_forward: Name of a part of the prediction, such as 'a prompt', that one forward
            pass with fixed weights cannot compute; None if there is no such part. A method with
            such a part cannot be exported.
        warm_up_model: Registered name of the model with which ``tools/warm_up.py`` trains the meta
            networks, if the method has meta networks.
    """

    predicts_after_update = False
    beyond_one_forward: Optional[str] = None
    warm_up_model = 'MetaNetworkWarmUp'

    def __init__(self, segmentor: nn.Module) -> None:
        if type(self).adapt is not AdaptationMethod.adapt:
            raise TypeError(
                f'expected a method that overrides `propose`, but {type(self).__name__} overrides '
                '`adapt`, which predicts and updates in one go: name it `propose`, and move what '
                'follows the update into `update`'
            )
        missing = missing_methods(type(self))
        if missing:
            raise TypeError(
                f'expected an adaptation method that defines {" and ".join(missing)}, but '
                f'{type(self).__name__} does not: see AdaptationMethod in {__name__}'
            )
        narrow = {p.dtype for p in segmentor.parameters()} & {torch.float16, torch.bfloat16}
        if narrow:
            raise ValueError(
                f'expected parameters in float32 or float64, got {narrow.pop()}, in which small '
                "updates are lost: convert the model with .float(), and set autocast='bf16' to "
                'run its network in 16 bits'
            )
        super().__init__()
        mend_gelus(segmentor)
        self.segmentor = with_logits_of_scores(with_two_logits(segmentor))
        self.adapting = True
        self.views = 1
        self.autocast: Optional[str] = None
        self.last_step = StepRecord()
        self.observer: Optional[AbstractContextManager] = None
        self.guard = None
        self.estimate = None
        self.estimating = True
        self.compute_budget = None
        self.learned_from: Optional[Tensor] = None

    def adapt(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Predicts frames and learns from them; arguments and result as in ``propose``."""
        return predict_and_learn(self, inputs, metas)

    def begin_frame(self) -> None:
        """Called before ``propose``, on each frame from which the method learns."""

    @abstractmethod
    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Predicts frames and prepares an update, which ``update`` makes.

        A method that only measures statistics during the forward pass has nothing to prepare.

        Args:
            inputs: (N, 3, H, W) float, preprocessed and padded.
            metas: The metainfo of the N samples.

        Returns:
            Detached logits (N, classes, H, W) of the forward pass before the update.
        """

    def update(self) -> None:
        """Makes the update that ``propose`` has prepared, and sets ``last_step.updated``."""

    def discard(self) -> None:
        """Frees all data of the latest frame; called after each ``propose``, updated or not.

        An override calls the base class.
        """
        self.learned_from = None

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Predicts frames without learning. Arguments and result as in ``propose``."""
        return predict_frames(self.segmentor, inputs, metas)

    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Predicts the stream's next frame without learning, otherwise like ``predict``.

        The moving averages of statistics that follow the stream change here, though not in
        ``predict``.
        """
        return self.predict(inputs, metas)

    def worth_learning(self, inputs: Tensor, metas: list[dict]) -> bool:
        """Whether a step on the stream's next frame would change the predictions noticeably.

        If a ``ComputeBudget`` is too small for a step on each frame, it calls this method right
        before ``propose`` or ``predict_frame``. If the result is False, the frame gets no step.

        Args:
            inputs, metas: As in ``propose``.
        """
        return True

    def test_step(self, data: dict) -> list:
        """mmengine's test interface: a packed batch to predictions (``SegDataSample``); learns.

        Raises:
            ValueError: The call is under ``torch.autocast``, see ``use_autocast``.
        """
        if self.training:
            self.eval()
        self.last_step = StepRecord()
        start = device_time(self.segmentor)
        with self.observer or nullcontext():
            samples = run_step(self, data)
        self.last_step.seconds = device_time(self.segmentor) - start
        return samples

    def prepare(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Transforms frames before prediction and learning.

        Args:
            inputs: (N, 3, H, W), preprocessed; may be changed in place.
            metas: As in ``propose``.

        Returns:
            (N, 3, H, W).
        """
        return inputs

    def other_views(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """The sum of the probabilities of all views except the plain frame, for ``with_views``.

        Args:
            inputs, metas: As in ``propose``.

        Returns:
            (N, classes, H, W); None if there is only one view.
        """
        views = prediction_views(self.views)[1:]
        return summed_probabilities(self.predict, inputs, metas, views) if views else None

    def with_views(self, logits: Tensor, others: Tensor) -> Tensor:
        """Averages the scored prediction over all views.

        Args:
            logits: (N, classes, H, W) of the plain frame.
            others: The result of ``other_views``.

        Returns:
            (N, classes, H, W), logarithms of probabilities.
        """
        return averaged_logits(logits, others, self.views)

    def forward(self, inputs: Tensor, data_samples=None, mode: str = 'tensor'):
        """Runs the plain segmentor's forward without learning."""
        return self.segmentor(inputs, data_samples, mode)

    def use_views(self, number: int) -> None:
        """Sets the number of ``views``; call before the first frame.

        Raises:
            ValueError: The number is out of range, or the method does not support several views.
        """
        prediction_views(number)
        self.views = number

    def use_autocast(self, name: Optional[str]) -> None:
        """Runs the network under ``torch.autocast``; call before the first frame.

        Parameters, their gradients, the optimizer, the statistics of norms, logits and losses keep
        their precision.

        Args:
            name: 'bf16', or None for no autocast.

        Raises:
            ValueError: The name is unknown, or the method does not support autocast.
        """
        dtype = autocast_dtype(name)
        if dtype is not None:
            wrong = wrong_convolutions(self.segmentor, dtype)
            if wrong:
                print_log(
                    f'autocast={name!r}: expected convolutions that differ by rounding alone, but '
                    f'this machine computes {len(wrong)} wrongly ({", ".join(wrong[:3])}): set '
                    'ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 before starting, or leave autocast out',
                    'current',
                    logging.WARNING,
                )
            run_under_autocast(self.segmentor, dtype)
        self.autocast = name

    def use_memory_budget(self, budget: Union[str, int, float]) -> None:
        """Keeps the peak memory of each step within a budget; call before the first frame.

        Args:
            budget: Maximum memory of a step without the parameters, but with gradients and the
                optimizer's state: ``'600MB'``, or ``'1.0x'`` times the peak of stock inference.

        Raises:
            ValueError: The text is not a budget, or the method does not support budgets.
        """
        raise self._needs_gradients('memory_budget')

    def use_reset_every(self, frames: int) -> None:
        """Resets the method at fixed intervals (RDumb); call before the first frame.

        Args:
            frames: Number of frames between two resets, see ``PeriodicReset``.

        Raises:
            ValueError: The number is below 1, or the method does not learn by gradients.
        """
        raise self._needs_gradients('reset_every')

    def use_layer_weights(self, exponent: float = 1.0) -> None:
        """Weights the learning rate of each layer (LAW); call before the first frame.

        Args:
            exponent: See ``LayerWeights``.

        Raises:
            ValueError: The exponent is not above 0, or the method does not learn by gradients.
        """
        raise self._needs_gradients('layer_weights')

    def _needs_gradients(self, option: str) -> ValueError:
        return ValueError(
            f'expected a method that learns by gradients, such as tent or ecotta, for a {option}, '
            f'but {type(self).__name__} does not: leave out {option}'
        )

    @contextmanager
    def adaptation_disabled(self) -> Iterator[None]:
        """Inside the context, the method predicts frames and learns nothing."""
        before, self.adapting = (self.adapting, self.compute_budget), False
        # These frames are not part of the stream.
        self.compute_budget = None
        kept = nullcontext() if self.estimate is None else self.estimate.stream_kept()
        try:
            with kept:
                yield
        finally:
            self.adapting, self.compute_budget = before

    def _apply(self, fn, recurse: bool = True) -> nn.Module:
        """Also moves the source model of the estimate (``to``, ``cuda``)."""
        super()._apply(fn, recurse)
        if self.estimate is not None:
            self.estimate.source._apply(fn, recurse)
        return self

    def set_reset_point(self) -> None:
        """Makes the current state the one that ``reset`` restores."""

    def adaptable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that adaptation changes, by name."""
        return {name: p for name, p in self.segmentor.named_parameters() if p.requires_grad}

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The adaptable parameters that the source model does not have: the meta networks."""
        return {}

    def optimizer_state(self) -> dict:
        """The optimizer's state: for each parameter a dictionary of tensors (momentum, steps)."""
        return {}

    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """Predicts with the state before the first frame, without learning or changing anything.

        The prediction uses the parameters from before the first frame, but the method's own
        normalisation (for Tent, the statistics of the frame). Arguments and result as in
        ``predict``; None if the method learns nothing.
        """
        return None

    def fallbacks(self) -> list[str]:
        """Names of modules that autograd runs, because the memory engine does not support them."""
        return []

    def reset(self) -> None:
        """Restores the state before the first frame."""
