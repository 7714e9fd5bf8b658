"""What all adaptation methods share: a segmentor that predicts and, meanwhile, adapts."""

import logging
import time
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import nan
from typing import Callable, Optional, Union

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..autograd_ops.autocast import under_autocast
from ..autograd_ops.gelu import mend_gelus
from .autocast import autocast_dtype, run_under_autocast, wrong_convolutions
from .calibration import CalibratedOnFrames
from .one_logit import with_two_logits
from .saved_state import expect_keys, misfit
from .views import averaged_logits, prediction_views, summed_probabilities
from .windows import predict_frames


@dataclass
class StepRecord:
    """What one adaptation step did; nan where a method has no such number.

    Attributes:
        loss: The whole loss.
        entropy: Mean entropy of the pixels that were learned from, in nats.
        regularisation: Sum of the regularising terms, before their weight.
        confident_fraction: Share of the pixels that were learned from, 0 to 1.
        updated: Whether parameters were changed.
        own_reset: Why the method went back to its start of itself (no guard did), or None.
        estimated_mIoU: Running mIoU of the adapted prediction in percent, estimated without labels;
            None without an estimate.
        source_estimated_mIoU: The same of the source's prediction.
        source_given: Whether the source's prediction was given out instead of the adapted one.
        seconds: Wall-clock time of the whole step, preprocessing and prediction included.
    """

    loss: float = nan
    entropy: float = nan
    regularisation: float = nan
    confident_fraction: float = nan
    updated: bool = False
    own_reset: Optional[str] = None
    estimated_mIoU: Optional[float] = None
    source_estimated_mIoU: Optional[float] = None
    source_given: bool = False
    seconds: float = nan


def _now(model: nn.Module) -> float:
    """Seconds on a clock, after all work queued for the model's device is done."""
    device = next(model.parameters()).device
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def missing_methods(kind: type) -> list[str]:
    """What a class leaves abstract. Python itself refuses such a class only under ``ABCMeta``,
    which a module has not."""
    names = (name for name in dir(kind) if not name.startswith('__'))
    return [n for n in names if getattr(getattr(kind, n, None), '__isabstractmethod__', False)]


def _check_sizes(data: dict) -> None:
    """Refuses a batch of frames of different sizes, which cannot be one tensor."""
    shapes = [tuple(image.shape) for image in data['inputs']]
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            (first, one), (second, two) = [
                (data['data_samples'][i].metainfo.get('img_path', f'frame {i}'), shapes[i])
                for i in (0, index)
            ]
            raise ValueError(
                f'expected frames of one size in a batch, but {first} is {one[2]}x{one[1]} and '
                f'{second} is {two[2]}x{two[1]} pixels (width x height): set batch_size=1, or '
                'resize them in the pipeline'
            )


class AdaptationMethod(CalibratedOnFrames, nn.Module):
    """Takes a segmentor's place in a test loop.

    One forward a frame: the prediction given (and scored) is the one of the forward that the
    adaptation step learns from, so a frame never profits from its own update.

    Args:
        segmentor: An mmseg ``EncoderDecoder`` with its source weights. It is changed in place.

    Raises:
        TypeError: A subclass does not define what is abstract here.
        ValueError: The parameters are in half precision.

    Attributes:
        adapting: False makes ``test_step`` predict with what was learned, and learn nothing.
        views: How many views of a frame the prediction is averaged over, see ``prediction_views``;
            all are predicted before the update. What is learned from is the frame as it is.
        autocast: The precision that the network's convolutions and matrix products are run in, see
            ``use_autocast``; None for that of the parameters.
        last_step: The record of the latest step.
        observer: Called with the step as a function, instead of running it directly, and gives
            back its result; a memory meter sits here. None for no observer.
        guard: An ``UpdateGuard`` that watches each step; None for none.
        estimate: A ``LabelFreeEstimate`` that watches the predictions and may give out the
            source's; None for none.
        estimating: False leaves the estimate as it is; the choice that it has made stays.
        gate: Asked with the logits before parameters are changed; False drops the update. A guard
            sits here. Methods that update while they go backward do not ask: what they did is
            taken back afterwards.
    """

    def __init__(self, segmentor: nn.Module) -> None:
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
                "updates are lost: convert the model with .float(), and set autocast='bf16' to run "
                'its network in half the width'
            )
        super().__init__()
        mend_gelus(segmentor)
        self.segmentor = with_two_logits(segmentor)
        self.adapting = True
        self.views = 1
        self.autocast: Optional[str] = None
        self.last_step = StepRecord()
        self.observer: Optional[Callable[[Callable[[], list]], list]] = None
        self.guard = None
        self.estimate = None
        self.estimating = True
        self.gate: Optional[Callable[[Tensor], bool]] = None

    @abstractmethod
    def adapt(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Predicts frames and learns from them.

        Args:
            inputs: (N, 3, H, W) float, preprocessed and padded.
            metas: The metainfo of the N samples.

        Returns:
            Logits (N, classes, H, W), detached, of the forward before the update.
        """

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Predicts frames and learns nothing. Arguments and result as in ``adapt``."""
        return predict_frames(self.segmentor, inputs, metas)

    def predict_frame(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """``predict``, for the stream's next frame: what follows the stream without learning
        anything follows it here."""
        return self.predict(inputs, metas)

    def test_step(self, data: dict) -> list:
        """mmengine's test interface: a batch of packed samples to predictions (``SegDataSample``).

        Raises:
            ValueError: It is run under ``torch.autocast``, see ``use_autocast``.
        """
        if self.training:
            self.eval()
        self.last_step = StepRecord()
        start = _now(self.segmentor)
        if self.observer is None:
            samples = self._step(data)
        else:
            samples = self.observer(lambda: self._step(data))
        self.last_step.seconds = _now(self.segmentor) - start
        return samples

    def _step(self, data: dict) -> list:
        if any(isinstance(sample, (list, tuple)) for sample in data['data_samples']):
            raise ValueError(
                'expected one sample a frame, got several views of it (test-time augmentation): '
                'leave TestTimeAug out of the pipeline, and set `views` (--views N)'
            )
        _check_sizes(data)
        batch = self.segmentor.data_preprocessor(data, False)
        inputs, samples = batch['inputs'], batch['data_samples']
        if under_autocast(inputs):
            raise ValueError(
                'expected the precision of the parameters around a step, but it is run under '
                'torch.autocast (test_cfg.fp16=True does so): leave that out, and set '
                "autocast='bf16' among the method's options"
            )
        metas = [sample.metainfo for sample in samples]
        # Frames may be changed in place by what comes next, and the source has its own way.
        untouched = None if self.estimate is None else inputs.clone()
        inputs = self.prepare(inputs, metas)
        others = self.other_views(inputs, metas)
        # A frame that a check found bad is predicted and not learned from.
        if any(meta.get('frame_fault') for meta in metas):
            logits = self.predict(inputs, metas)
        elif not self.adapting:
            logits = self.predict_frame(inputs, metas)
        elif self.guard is None:
            logits = self.adapt(inputs, metas)
        else:
            logits = self.guard.watch(self, inputs, metas)
        with torch.no_grad():
            if others is not None:
                logits = self.with_views(logits, others)
            if self.estimate is not None:
                logits = self.estimate.choose(self, untouched, inputs, metas, logits)
            return self.segmentor.postprocess_result(logits, samples)

    def prepare(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """What becomes of frames before anything is predicted from them or learned.

        Args:
            inputs: (N, 3, H, W), preprocessed; may be changed.
            metas: As in ``adapt``.

        Returns:
            (N, 3, H, W).
        """
        return inputs

    def other_views(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """The summed probabilities of the views that ``with_views`` adds to the frame as it is.

        Args:
            inputs, metas: As in ``adapt``.

        Returns:
            (N, classes, H, W); None where there is but one view.
        """
        views = prediction_views(self.views)[1:]
        return summed_probabilities(self.predict, inputs, metas, views) if views else None

    def with_views(self, logits: Tensor, others: Tensor) -> Tensor:
        """The prediction that is scored, averaged over all views.

        Args:
            logits: (N, classes, H, W), of the frame as it is.
            others: What ``other_views`` gave.

        Returns:
            (N, classes, H, W), logarithms of probabilities.
        """
        return averaged_logits(logits, others, self.views)

    def forward(self, inputs: Tensor, data_samples=None, mode: str = 'tensor'):
        """The plain segmentor's forward; nothing is learned."""
        return self.segmentor(inputs, data_samples, mode)

    def use_views(self, number: int) -> None:
        """Predicts from that many views, see ``views``; before the first frame.

        Raises:
            ValueError: The number is not one that there is, or the method cannot.
        """
        prediction_views(number)
        self.views = number

    def use_autocast(self, name: Optional[str]) -> None:
        """Runs the network under ``torch.autocast``; before the first frame.

        Parameters, their gradients, the optimizer, the statistics of norms, logits and losses stay
        what they are.

        Args:
            name: 'bf16', or None to leave all as it is.

        Raises:
            ValueError: The name is unknown, or the method cannot be run so.
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
        """Keeps the peak of each step within a budget; before the first frame.

        Args:
            budget: The most that a step may take above parameters, gradients and the optimizer's
                state counted in: ``'600MB'``, or ``'1.0x'`` times the peak of stock inference.

        Raises:
            ValueError: The text is no budget, or the method has nothing to save memory on.
        """
        raise ValueError(
            f'expected a method that learns by gradients for a memory_budget, but '
            f'{type(self).__name__} does not: leave out memory_budget'
        )

    @contextmanager
    def holding_still(self) -> Iterator[None]:
        """Inside, frames are predicted and nothing is learned."""
        adapting, self.adapting = self.adapting, False
        kept = nullcontext() if self.estimate is None else self.estimate.stream_kept()
        try:
            with kept:
                yield
        finally:
            self.adapting = adapting

    def _apply(self, fn, recurse: bool = True) -> nn.Module:
        """Moves (``to``, ``cuda``) the source of the estimate as well."""
        super()._apply(fn, recurse)
        if self.estimate is not None:
            self.estimate.source._apply(fn, recurse)
        return self

    def start_from_here(self) -> None:
        """Takes what there is now for the state that ``reset`` goes back to."""

    def adaptable_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that adaptation changes, by name."""
        return {name: p for name, p in self.segmentor.named_parameters() if p.requires_grad}

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """Those of them that the source model does not have: the meta networks."""
        return {}

    def optimizer_state(self) -> dict:
        """Tensors that the optimizer keeps, a dictionary a parameter."""
        return {}

    def learned_tensors(self) -> dict[str, Tensor]:
        """All tensors that adaptation changes in place, live, by name.

        Adaptable parameters and all buffers; a method that changes anything else (a teacher's
        weights) adds it. What is in here is what ``method_state`` keeps.
        """
        tensors = {f'parameter.{name}': p for name, p in self.adaptable_parameters().items()}
        tensors.update({f'buffer.{name}': b for name, b in self.named_buffers()})
        return tensors

    def method_state(self) -> dict:
        """A copy of all that a later frame's step depends on: plain tensors, numbers, strings.

        It loads with ``weights_only=True``. A method with more memory than its tensors (counters,
        generators) adds a key of its own: here and in ``state_keys``, ``check_method_state`` and
        ``take_method_state``.
        """
        return {'tensors': {k: t.detach().clone() for k, t in self.learned_tensors().items()}}

    def load_method_state(self, state: dict) -> None:
        """Goes on from what ``method_state`` gave, bit for bit.

        Raises:
            ValueError: The state is of another method or model; nothing is changed then.
        """
        self.check_method_state(state)
        self.take_method_state(state)

    def state_keys(self) -> set[str]:
        """The keys of ``method_state``."""
        return {'tensors'}

    def check_method_state(self, state: dict) -> None:
        """Looks whether a state can be taken over, and changes nothing.

        Raises:
            ValueError: It is of another method or model.
        """
        expect_keys(state, self.state_keys(), 'the state')
        tensors, saved = self.learned_tensors(), state['tensors']
        expect_keys(saved, tensors, 'its tensors')
        for name, tensor in tensors.items():
            if not isinstance(saved[name], Tensor) or saved[name].shape != tensor.shape:
                raise misfit(f'{name} is of another shape')

    @torch.no_grad()
    def take_method_state(self, state: dict) -> None:
        """Takes over a state that ``check_method_state`` has found right."""
        for name, tensor in self.learned_tensors().items():
            tensor.copy_(state['tensors'][name])

    def predict_reference(self, inputs: Tensor, metas: list[dict]) -> Optional[Tensor]:
        """Predicts with what was there before the first frame; nothing is learned or changed.

        The frozen source's prediction under the method's own normalisation. Arguments and result
        as in ``predict``; None where a method learns nothing.
        """
        return None

    def fallbacks(self) -> list[str]:
        """Names of modules that the memory engine does not know and autograd runs."""
        return []

    def reset(self) -> None:
        """Goes back to the state before the first frame."""
