"""A segmentor for a camera loop, called frame by frame."""

import pickle
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union

import numpy as np
import torch
from mmseg.structures import SegDataSample
from torch import nn

from ..datasets.checks.frame_check import FrameChecker
from ..memory import StandingMemory, standing_memory
from ..meta_networks import input_channels, read_adapters, save_adapters
from ..methods import AdaptationMethod
from ..methods.frame_life import check_frame, frame_events
from ..resume.state_file import read_state, write_state
from .dataset_meta import DatasetMeta
from .segmentor_state import check_state, gather_state, take_state
from .shadow import shadow_of

_OF_THREADS = ('_lock', '_shadow', '_shadow_lock')


class AdaptiveSegmentor:
    """Predicts frames and adapts to them.

    ``step`` and ``reset`` wait for each other, so one thread at a time runs them. Any thread may
    call ``predict`` while a step runs.

    A pickle holds the whole segmentor, including weights and momenta. Another process can continue
    from the pickle; it shares no memory with this process.

    Args:
        method: The adaptation method, on its device.
        pipeline: Maps ``dict(img=frame)`` to a packed sample.
        source: The source model, for ``predict_source``.
        check_frames: See ``init_adaptive_segmentor``.
        adapt_every: See ``init_adaptive_segmentor``.
        time_budget: See ``init_adaptive_segmentor``.
        concurrent: See ``init_adaptive_segmentor``.
        meta: Names and colours of the classes.
        identity: The settings that the segmentor was built from, see ``model_identity``. ``load``
            refuses a state with another identity; an empty identity is not compared.

    Attributes:
        adapting: Whether ``step`` may learn. While False, predictions use the parameters that were
            learned before. Statistics that follow the stream without learning still change.
        frames: Number of frames given to ``step``.
        updates: Number of frames with an update.
        channels: Number of channels of the model's input frames.
        events: The last 1000 faults and interventions: dicts with ``event``, ``stream_index`` and
            ``reason``.

    Raises:
        ValueError: ``adapt_every`` is below 1 or ``time_budget`` is not above 0.
        TypeError: ``adapt_every`` is not an int, or ``time_budget`` is not a number or None.
    """

    def __init__(
        self,
        method: AdaptationMethod,
        pipeline: Callable[[dict], dict],
        source: Optional[nn.Module] = None,
        check_frames: bool = True,
        adapt_every: int = 1,
        time_budget: Optional[float] = None,
        concurrent: bool = False,
        meta: Optional[DatasetMeta] = None,
        identity: Optional[Mapping[str, str]] = None,
    ) -> None:
        seconds = (int, float, type(None))
        if not isinstance(adapt_every, int) or not isinstance(time_budget, seconds):
            raise TypeError(
                'expected adapt_every to be a whole number and time_budget seconds or None, got '
                f'{adapt_every!r} and {time_budget!r}'
            )
        if adapt_every < 1 or (time_budget is not None and not time_budget > 0):
            raise ValueError(
                'expected adapt_every from 1 and time_budget above 0 seconds, got '
                f'{adapt_every} and {time_budget}'
            )
        self.method = method
        self.source, self.meta = source, meta
        self.adapt_every, self.time_budget = adapt_every, time_budget
        self._pipeline = pipeline
        self.channels = input_channels(method.segmentor)
        self.frame_checker = FrameChecker() if check_frames else None
        self.adapting = True
        self.identity = dict(identity or {})
        self.frames = self.updates = 0
        self.events: list[dict] = []
        self.lag = 0.0
        self._start_threads(concurrent)

    def _start_threads(self, concurrent: bool) -> None:
        self._lock = threading.RLock()
        self._shadow = shadow_of(self.method) if concurrent else None
        self._shadow_lock = threading.Lock()

    def step(self, frame: np.ndarray) -> SegDataSample:
        """Predicts a frame and, if an update is due, learns from the frame.

        The prediction comes from the forward pass before the update.

        Args:
            frame: (H, W, 3) uint8 BGR, as from OpenCV. For models with another number of channels
                (H, W, C), or (H, W) for one channel.

        Returns:
            A sample with ``pred_sem_seg`` (1, H, W) and ``seg_logits``. Its metainfo holds
            ``updated``, whether the frame led to an update, and for a bad frame ``frame_fault``,
            the reason. If the method estimates mIoU, the metainfo also holds ``estimated_mIoU`` and
            ``source_estimated_mIoU``, the running estimates in percent, and ``source_given``,
            whether the prediction is the source's.

        Raises:
            TypeError: The frame is not an array.
            ValueError: The frame has another shape or dtype.
        """
        start = time.perf_counter()
        data = self._packed(frame)
        sample = data['data_samples'][0]
        with self._lock:
            sample.set_metainfo({'stream_index': self.frames})
            fault = check_frame(self.frame_checker, data['inputs'][0], sample)
            if fault:
                self._record_event(
                    {'event': 'bad_frame', 'stream_index': self.frames, 'reason': fault}
                )
            late = self.time_budget is not None and self.lag > 0
            turn = self.frames % self.adapt_every == 0 and not late
            self.method.adapting = bool(self.adapting) and turn
            (result,) = self.method.test_step(data)
            self.method.adapting = True
            updated = bool(self.method.last_step.updated)
            for event in frame_events(self.method, self.frames):
                self._record_event(event)
            self.frames += 1
            self.updates += updated
            if updated or self.method.guard is not None:
                self._sync()
            if self.time_budget is not None:
                # Frames without an update make up for time over the budget.
                spent = time.perf_counter() - start
                self.lag = max(0.0, self.lag + spent - self.time_budget)
            record = self.method.last_step
            told = {'updated': updated}
            if self.method.estimate is not None:
                told.update(
                    estimated_mIoU=record.estimated_mIoU,
                    source_estimated_mIoU=record.source_estimated_mIoU,
                    source_given=record.source_given,
                )
        result.set_metainfo(told)
        return result

    @torch.no_grad()
    def predict(self, frame: np.ndarray) -> SegDataSample:
        """Predicts a frame with the current parameters, without learning; any thread may call it.

        With ``concurrent`` this method uses the adapters of the last finished step. Without
        ``concurrent`` this method waits until a running step ends. For arguments, result and errors
        see ``step``.
        """
        data = self._packed(frame)
        if self._shadow is None:
            with self._lock, self.method.adaptation_disabled():
                return self.method.test_step(data)[0]
        with self._shadow_lock:
            return self._shadow.test_step(data)[0]

    @torch.no_grad()
    def predict_source(self, frame: np.ndarray) -> SegDataSample:
        """Predicts a frame with the unchanged source model.

        Raises:
            ValueError: The source model was not kept.
        """
        if self.source is None:
            raise ValueError('the source model was not kept: build with keep_source=True')
        return self.source.test_step(self._packed(frame))[0]

    def reset(self) -> None:
        """Resets everything learned, including the optimizer's momenta."""
        with self._lock:
            self.method.reset()
            if self.method.guard is not None:
                self.method.guard.forget()
            if self.method.estimate is not None:
                self.method.estimate.forget()
            if self.method.compute_budget is not None:
                self.method.compute_budget.forget()
            if self.frame_checker is not None:
                self.frame_checker = FrameChecker()
            self.lag = 0.0
            self._sync()

    def standing_memory(self) -> StandingMemory:
        """Returns the memory that stays allocated between two steps, in bytes.

        The second set of adapters (``concurrent``) and a kept source count as kept copies.
        """
        method = self.method
        with self._lock:
            return standing_memory(
                method,
                method.adapter_parameters(),
                getattr(method, 'optimizer', None),
                beside=(self._shadow, self.source),
            )

    def save(self, path: Union[str, Path]) -> None:
        """Writes a file for ``load``, either completely or not at all.

        The file holds everything learned, the optimizer's momenta, the parameters that ``reset``
        restores, the guard, the estimate, the compute budget, the frame check, the counts and
        events, ``adapting``, and the state of all random generators of this process. The file does
        not hold the source's weights.

        Raises:
            OSError: The file cannot be written; an earlier file is unchanged.
        """
        with self._lock:
            write_state(gather_state(self), path)

    def load(self, path: Union[str, Path], allow: Sequence[str] = ()) -> None:
        """Continues from a file that ``save`` wrote.

        On the CPU the next predictions are bit for bit the same as those without a stop. The random
        generators of this process also continue from the saved state. ``adapt_every`` and
        ``time_budget`` keep the values that this segmentor was built with.

        Args:
            path: The file.
            allow: Beginnings of the names of identity entries that may differ from the saved
                segmentor: ``('code',)`` for another version of this package or of its libraries.

        Raises:
            ValueError: The file is missing, damaged, or from another method, model, checkpoint,
                option or version, which the message names. Nothing changes then.
        """
        state = read_state(path)
        with self._lock:
            check_state(self, state, allow)
            take_state(self, state)
            self._sync()

    def __reduce__(self) -> tuple:
        # Pickle to bytes: multiprocessing would put tensors into memory that both processes share.
        with self._lock:
            own = {k: v for k, v in vars(self).items() if k not in _OF_THREADS}
            content = pickle.dumps(own, pickle.HIGHEST_PROTOCOL)
        return _restored, (type(self), content, self._shadow is not None)

    @property
    def has_adapters(self) -> bool:
        """Whether there are meta networks to save."""
        return getattr(self.method, 'encoder', None) is not None

    def save_adapters(self, path: Union[str, Path]) -> None:
        """Writes the current meta networks to a file for ``init_adaptive_segmentor(adapters=...)``.

        If the method is calibrated on clear frames, the file also holds the calibration.

        Raises:
            ValueError: The method has no meta networks.
        """
        with self._lock:
            kept = (self.method.is_calibrated and self.method.calibration()) or None
            save_adapters(self._encoder(), path, kept)

    def load_adapters(self, path: Union[str, Path]) -> None:
        """Loads saved or warmed-up meta networks; the optimizer keeps its momenta.

        From then on ``reset()`` and the guard restore these meta networks. If the file has a
        calibration, it replaces the method's calibration.

        Raises:
            ValueError: The meta networks are missing, damaged or do not fit, or the method has no
                meta networks. Nothing changes then.
        """
        with self._lock:
            encoder = self._encoder()
            state = read_adapters(encoder, path)
            if 'calibration' in state:
                self.method.take_calibration(state['calibration'])
            encoder.meta_networks.load_state_dict(state['state_dict'])
            self.method.set_reset_point()
            if self.method.guard is not None:
                self.method.guard.forget()
            self._sync()

    def _encoder(self) -> nn.Module:
        if not self.has_adapters:
            raise ValueError(f'{type(self.method).__name__} has no meta networks to save or load')
        return self.method.encoder

    def _packed(self, frame: Any) -> dict:
        if not isinstance(frame, np.ndarray):
            raise TypeError(
                f'expected a frame as a NumPy array (H, W, {self.channels}), BGR if it has 3 '
                f'channels, got {type(frame).__name__}'
            )
        found = frame.shape[2] if frame.ndim == 3 else 1
        if (
            frame.ndim not in (2, 3)
            or found != self.channels
            or frame.dtype != np.uint8
            or not frame.size
        ):
            raise ValueError(
                f'expected a frame of shape (H, W, {self.channels}) and dtype uint8'
                f'{", BGR" if self.channels == 3 else ""}, got {frame.shape} {frame.dtype}'
            )
        # No default scope of mmengine, which is not thread-safe: all transforms are built already.
        sample = self._pipeline(dict(img=np.ascontiguousarray(frame)))
        return {'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]}

    def _record_event(self, event: dict) -> None:
        self.events.append(event)
        del self.events[:-1000]

    @torch.no_grad()
    def _sync(self) -> None:
        if self._shadow is None:
            return
        learned = self.method.learned_tensors()
        with self._shadow_lock:
            for name, tensor in self._shadow.learned_tensors().items():
                tensor.copy_(learned[name])


def _restored(kind: type, content: bytes, concurrent: bool) -> AdaptiveSegmentor:
    segmentor = kind.__new__(kind)
    vars(segmentor).update(pickle.loads(content))
    segmentor._start_threads(concurrent)
    return segmentor
