"""A segmentor that a camera loop calls frame by frame."""

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

from ..adaptation import AdaptationMethod
from ..datasets.frame_check import FrameWatch
from ..memory import StandingMemory, standing_memory
from ..meta_networks import input_channels, read_adapters, save_adapters
from ..state_file import read_state, write_state
from .dataset_meta import DatasetMeta
from .segmentor_state import check_state, gather_state, take_state
from .shadow import shadow_of

_OF_THREADS = ('_lock', '_shadow', '_shadow_lock')


class AdaptiveSegmentor:
    """Predicts frames and, meanwhile, adapts.

    ``step`` and ``reset`` are for one thread at a time (they wait for each other); ``predict``
    may be called from any thread while a step runs.

    A pickle of a segmentor is the whole segmentor, weights and momenta with it: another process
    continues from there, and nothing is shared with it.

    Args:
        method: The adaptation method, on its device.
        pipeline: From ``dict(img=frame)`` to a packed sample.
        source: The source model, for ``predict_source``.
        check_frames: See ``init_adaptive_segmentor``.
        adapt_every: Likewise.
        time_budget: Likewise.
        concurrent: Likewise.
        meta: Names and colours of the classes.
        identity: What the segmentor was built from, see ``model_identity``. ``load`` refuses a
            state with another one; an empty one is not compared.

    Attributes:
        adapting: Whether ``step`` may learn. False pauses: frames are predicted with what was
            learned; statistics that follow the stream without learning still do.
        frames: Frames that ``step`` was given.
        updates: Frames that something was learned from.
        channels: Of the frames that the model takes.
        events: What was found wrong: dicts with ``event``, ``stream_index`` and ``reason``; the
            last 1000.

    Raises:
        ValueError: ``adapt_every`` is below 1 or ``time_budget`` not above 0.
        TypeError: They are no numbers.
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
        self.watch = FrameWatch() if check_frames else None
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
        """Predicts a frame and, where it is this frame's turn, learns from it.

        The prediction is that of the forward before the update.

        Args:
            frame: (H, W, 3) uint8 BGR, as OpenCV gives it; of a model of another number of
                channels (H, W, C), or (H, W) for one.

        Returns:
            A sample with ``pred_sem_seg`` (1, H, W) and ``seg_logits``; in its metainfo
            ``updated`` tells whether something was learned, ``frame_fault``, where there, why
            not. If there is an estimate, ``estimated_mIoU`` and ``source_estimated_mIoU`` are the
            running ones in percent, and ``source_given`` tells whether the prediction is the
            source's.

        Raises:
            TypeError, ValueError: The frame is no such array.
        """
        start = time.perf_counter()
        data = self._packed(frame)
        sample = data['data_samples'][0]
        with self._lock:
            sample.set_metainfo({'stream_index': self.frames})
            fault = self.watch.check(data['inputs'][0]) if self.watch is not None else None
            if fault:
                sample.set_metainfo({'frame_fault': fault})
                self._tell({'event': 'bad_frame', 'stream_index': self.frames, 'reason': fault})
            late = self.time_budget is not None and self.lag > 0
            turn = self.frames % self.adapt_every == 0 and not late
            self.method.adapting = bool(self.adapting) and turn
            (result,) = self.method.test_step(data)
            self.method.adapting = True
            updated = bool(self.method.last_step.updated)
            self.frames += 1
            self.updates += updated
            if self.method.guard is not None:
                for event in self.method.guard.take_events():
                    self._tell(event)
            reason = self.method.last_step.own_reset
            if reason is not None:
                index = sample.metainfo['stream_index']
                self._tell({'event': 'own_reset', 'stream_index': index, 'reason': reason})
            if updated or self.method.guard is not None:
                self._sync()
            if self.time_budget is not None:
                # What a frame took too long has to be made up for by frames without an update.
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
        """Predicts a frame with what has been learned, and learns nothing; from any thread.

        Without ``concurrent`` it waits for a step that runs to end; with it, it uses the adapters
        of the last step that has ended. Arguments, result and errors as of ``step``.
        """
        data = self._packed(frame)
        if self._shadow is None:
            with self._lock, self.method.holding_still():
                return self.method.test_step(data)[0]
        with self._shadow_lock:
            return self._shadow.test_step(data)[0]

    @torch.no_grad()
    def predict_source(self, frame: np.ndarray) -> SegDataSample:
        """Predicts a frame with the untouched source model.

        Raises:
            ValueError: It was not kept.
        """
        if self.source is None:
            raise ValueError('the source model was not kept: build with keep_source=True')
        return self.source.test_step(self._packed(frame))[0]

    def reset(self) -> None:
        """Forgets all that was learned, the optimizer's momenta too."""
        with self._lock:
            self.method.reset()
            if self.method.guard is not None:
                self.method.guard.forget()
            if self.method.estimate is not None:
                self.method.estimate.forget()
            if self.watch is not None:
                self.watch = FrameWatch()
            self.lag = 0.0
            self._sync()

    def standing_memory(self) -> StandingMemory:
        """What stands between two steps, in bytes.

        The second set of adapters (``concurrent``) and a source kept beside are kept copies.
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
        """Writes the whole state, whole or not at all, for ``load``.

        That is all that was learned, the optimizer's momenta, what ``reset`` goes back to, the
        guard, the estimate, the check of frames, the counts and events, ``adapting``, and the
        state of all random generators of this process. The source's own weights are not in it.

        Raises:
            OSError: It cannot be written; what was there before is untouched.
        """
        with self._lock:
            write_state(gather_state(self), path)

    def load(self, path: Union[str, Path], allow: Sequence[str] = ()) -> None:
        """Continues from what ``save`` wrote: on the CPU, bit for bit as if nothing had stopped.

        The random generators of this process continue from the state as well. How often and for
        how long a step may learn (``adapt_every``, ``time_budget``) stays as it was built.

        Args:
            path: The file.
            allow: Names of what may differ from the segmentor that was saved, by their beginning:
                ``('code',)`` for another version of this package or of its libraries.

        Raises:
            ValueError: The file is missing, damaged, or of another method, model, checkpoint,
                option or version, which is named; nothing is changed then.
        """
        state = read_state(path)
        with self._lock:
            check_state(self, state, allow)
            take_state(self, state)
            self._sync()

    def __reduce__(self) -> tuple:
        # Bytes of its own: multiprocessing would put tensors into memory that both processes see.
        with self._lock:
            own = {k: v for k, v in vars(self).items() if k not in _OF_THREADS}
            content = pickle.dumps(own, pickle.HIGHEST_PROTOCOL)
        return _restored, (type(self), content, self._shadow is not None)

    @property
    def has_adapters(self) -> bool:
        """Whether there are meta networks to save."""
        return getattr(self.method, 'encoder', None) is not None

    def save_adapters(self, path: Union[str, Path]) -> None:
        """Writes the meta networks as they are now; ``adapters=path`` starts from them.

        A calibration on clear frames goes into the file with them.

        Raises:
            ValueError: The method has no meta networks.
        """
        with self._lock:
            kept = (self.method.is_calibrated and self.method.calibration()) or None
            save_adapters(self._encoder(), path, kept)

    def load_adapters(self, path: Union[str, Path]) -> None:
        """Takes over meta networks that were saved or warmed up; momenta stay.

        They are the new start, which ``reset()`` and the guard go back to. A calibration in the
        file takes the place of the method's own.

        Raises:
            ValueError: They are missing, damaged or do not fit, and nothing is changed; or the
                method has no meta networks.
        """
        with self._lock:
            encoder = self._encoder()
            state = read_adapters(encoder, path)
            if 'calibration' in state:
                self.method.take_calibration(state['calibration'])
            encoder.meta_networks.load_state_dict(state['state_dict'])
            self.method.start_from_here()
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
                f'expected a frame as a NumPy array (H, W, {self.channels}), BGR where it has 3 '
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
        # Without mmengine's default scope, which is not safe in several threads: all is built.
        sample = self._pipeline(dict(img=np.ascontiguousarray(frame)))
        return {'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]}

    def _tell(self, event: dict) -> None:
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
