"""A segmentor for a camera loop that runs an exported network."""

import io
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional, Union

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from ..apis.dataset_meta import DatasetMeta
from ..datasets.checks.frame_check import FrameChecker
from ..files.atomic_io import atomic_write
from ..files.torch_file import load_whole
from .classifier_adapter import build_adapter
from .frozen_engine import FrozenEngine, Seen

_FORMAT = 'ecotta_seg classifier adapter'


class EngineSegmentor:
    """Predicts frames with an exported network, and adapts outside of the network.

    The first prediction equals that of the network, bit for bit. A frame is predicted before the
    adapter learns from it.

    Args:
        path: An ONNX file that ``tools/export.py --features`` wrote.
        adapter: 'statistics' or 'entropy', see ``build_adapter``; None predicts without learning.
        providers, threads: See ``OnnxSession``.
        check_frames: If True, the adapter does not learn from bad frames (black, frozen, noise and
            so on).
        **options: Options of the adapter.

    Attributes:
        meta: Names and colours of the classes.
        frames: Number of frames that ``step`` has predicted.
        updates: Number of frames from which the adapter has learned.
        events: The last 1000 bad frames: dictionaries with ``event``, ``stream_index`` and
            ``reason``.

    Raises:
        ValueError: The file does not contain such a network, or an option is unknown or out of
            range.
    """

    def __init__(
        self,
        path: Union[str, Path],
        adapter: Optional[str] = 'statistics',
        providers: Optional[Sequence[str]] = None,
        threads: Optional[int] = None,
        check_frames: bool = True,
        **options,
    ) -> None:
        self.engine = FrozenEngine(path, providers, threads)
        self.meta = DatasetMeta(self.engine.classes, self.engine.palette)
        self.adapter = None
        if adapter is not None:
            self.adapter = build_adapter(adapter, self.engine.classifier, **options)
        self._name, self._check = adapter, check_frames
        self._checker = FrameChecker() if check_frames else None
        self._lock = threading.RLock()
        self.frames = self.updates = 0
        self.events: list[dict] = []

    def calibrate(self, frames: Iterable[np.ndarray]) -> None:
        """Calibrates the adapter on a dozen clear frames without labels.

        Args:
            frames: Clear frames in the form that ``step`` takes.

        Raises:
            ValueError: There is no frame, or no adapter.
        """
        features = [self.engine.run(_tensor(frame)).features for frame in frames]
        if not features or self.adapter is None:
            raise ValueError('expected an adapter, and some clear frames to calibrate it on')
        with self._lock:
            self.adapter.calibrate(features)

    def step(self, frame: np.ndarray) -> SegDataSample:
        """Predicts a frame with the adapter as it is, then learns from the frame.

        Args:
            frame: (H, W, 3) uint8 with the channels in the order that the file's description names
                (BGR in mmseg), resized as the config's test pipeline does.

        Returns:
            A sample with ``pred_sem_seg`` (1, H, W) and ``seg_logits``. In its metainfo,
            ``updated`` is True if the adapter has learned. If the frame is bad, ``frame_fault`` is
            the reason.

        Raises:
            TypeError, ValueError: The frame is not such an array.
        """
        image = _tensor(frame)
        seen = self.engine.run(image)
        with self._lock:
            told = {'stream_index': self.frames, 'updated': False}
            fault = self._checker.check(image[0].byte()) if self._checker is not None else None
            logits = self._adapted(seen)
            if fault:
                told['frame_fault'] = fault
                event = {'event': 'bad_frame', 'stream_index': self.frames, 'reason': fault}
                self.events = [*self.events[-999:], event]
            elif self.adapter is not None:
                told['updated'] = self.adapter.learn(seen.features, seen.small_logits())
            self.frames += 1
            self.updates += told['updated']
        return _sample(logits, told)

    def predict(self, frame: np.ndarray) -> SegDataSample:
        """Predicts a frame with the adapter as it is and learns nothing; any thread may call it.

        Arguments, result and errors as of ``step``.
        """
        seen = self.engine.run(_tensor(frame))
        with self._lock:
            return _sample(self._adapted(seen), {})

    def reset(self) -> None:
        """Resets the adapter to its state before the first frame; keeps the calibration."""
        with self._lock:
            if self.adapter is not None:
                self.adapter.reset()
            self._checker = FrameChecker() if self._check else None

    def save_adapter(self, path: Union[str, Path]) -> None:
        """Writes the adapter with its calibration to a file, completely or not at all.

        Raises:
            ValueError: There is no adapter.
            OSError: The file cannot be written.
        """
        own, written = self._own(), io.BytesIO()
        with self._lock:
            tensors = {name: tensor.detach() for name, tensor in own.tensors().items()}
            state = {'format': _FORMAT, 'adapter': self._name, 'tensors': tensors}
            torch.save({**state, 'classifier': self.engine.classifier}, written)
        # If torch wrote the file, a full disk would not raise an OSError.
        with atomic_write(path) as temporary:
            temporary.write_bytes(written.getvalue())

    def load_adapter(self, path: Union[str, Path]) -> None:
        """Loads a file that ``save_adapter`` wrote.

        Raises:
            ValueError: The file is missing, damaged, or belongs to another network or adapter. The
                adapter is then unchanged.
        """
        own = self._own()
        if not Path(path).is_file():
            raise ValueError(f'expected a file that save_adapter wrote, but {path} does not exist')
        try:
            state = load_whole(path)
        except Exception:  # What a damaged file raises depends on where it is damaged.
            state = None
        if not isinstance(state, dict) or state.get('format') != _FORMAT:
            raise ValueError(f'{path} is damaged or not a file that save_adapter wrote')
        if state['adapter'] != self._name:
            raise ValueError(
                f'{path} belongs to the adapter {state["adapter"]!r}, but this segmentor has '
                f'{self._name!r}: build the segmentor with the same adapter'
            )
        if not torch.equal(state['classifier'], self.engine.classifier):
            raise ValueError(
                f'{path} was learned with another network: use the ONNX file of that network'
            )
        tensors = own.tensors()
        with self._lock, torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(state['tensors'][name])

    def _own(self):
        if self.adapter is None:
            raise ValueError('the segmentor was built without an adapter, adapter=None')
        return self.adapter

    @torch.no_grad()
    def _adapted(self, seen: Seen) -> Tensor:
        if self.adapter is None:
            return seen.logits
        return self.adapter.added(seen.features, seen.logits, self.engine.align_corners)


def _tensor(frame: np.ndarray) -> Tensor:
    """(H, W, C) uint8 as (1, C, H, W) float32."""
    if not isinstance(frame, np.ndarray):
        raise TypeError(f'expected a frame as a NumPy array, got {type(frame).__name__}')
    if frame.ndim != 3 or frame.dtype != np.uint8 or not frame.size:
        raise ValueError(
            f'expected a frame of shape (H, W, C) and dtype uint8, got {frame.shape} {frame.dtype}'
        )
    return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()


def _sample(logits: Tensor, told: dict) -> SegDataSample:
    sample = SegDataSample(metainfo=told)
    sample.seg_logits = PixelData(data=logits[0])
    sample.pred_sem_seg = PixelData(data=logits.argmax(1))
    return sample
