"""The frames of a video as a stream, which is predicted but not scored."""

import os
import os.path as osp
from typing import Any, Optional

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import DATASETS

from .checks.checked_loading import CheckedLoadImage
from .checks.frame_error import FrameError
from .condition_dataset import root_hint
from .frame_folder import FrameFolderDataset

VIDEOS = ('.mp4', '.avi', '.mkv', '.mov', '.m4v', '.mpg', '.mpeg', '.ts', '.webm')


class VideoReader:
    """Reads frames of a video by their numbers.

    The reader decodes all earlier frames, because seeking is not exact with most codecs. If frames
    are read in order, each is decoded once. Each process opens its own file handle.

    Args:
        path: The video file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._capture: Optional[cv2.VideoCapture] = None
        self._inherited: Optional[cv2.VideoCapture] = None
        self._next, self._process = 0, 0

    def count(self) -> int:
        """Counts the frames that can be decoded, because a file's header may be wrong."""
        capture, number = cv2.VideoCapture(self.path), 0
        while capture.grab():
            number += 1
        capture.release()
        return number

    def read(self, number: int) -> Optional[np.ndarray]:
        """Frame ``number`` (from 0) as (H, W, 3) uint8 BGR; None if the frame cannot be decoded."""
        if self._capture is not None and self._process != os.getpid():
            # The process was forked. Keep the old handle: to close it would wait for the decoder's
            # threads, which this process does not have.
            self._inherited, self._capture = self._capture, None
        if self._capture is None or number < self._next:
            self._capture, self._next = cv2.VideoCapture(self.path), 0
            self._process = os.getpid()
        while self._next < number:
            if not self._capture.grab():
                return None
            self._next += 1
        there, frame = self._capture.read()
        self._next += 1
        return frame if there else None

    def __getstate__(self) -> dict:
        return {**vars(self), '_capture': None, '_inherited': None}


class LoadVideoFrame(BaseTransform):
    """A transform that loads a video's frame in place of ``LoadImageFromFile``.

    Args:
        readers: The reader of each video, by path.
    """

    def __init__(self, readers: dict[str, VideoReader]) -> None:
        self.readers = readers

    def transform(self, results: dict) -> dict:
        """Loads frame ``results['frame_number']`` of ``results['video']``.

        Args:
            results: A dictionary with both keys and ``img_path``, the frame's name.

        Returns:
            ``results`` with ``img`` (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape`` (H, W).

        Raises:
            FrameError: The frame cannot be decoded.
        """
        frame = self.readers[results['video']].read(results['frame_number'])
        if frame is None:
            raise FrameError.at(results['img_path'], 'the video no longer has this frame')
        results['img'] = frame
        results['img_shape'] = results['ori_shape'] = frame.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@DATASETS.register_module(force=True)
class VideoFramesDataset(FrameFolderDataset):
    """The frames of a video file, or of all videos in a folder in the order of their paths.

    Frame 12 of ``drive.mp4`` has the name ``drive.mp4/000012``. Listing the frames decodes each
    video once.

    Args:
        condition: Name of the condition in tables and plots.
        every: Use every n-th frame.
        metainfo: See ``FrameFolderDataset``.
        **kwargs: Arguments of mmseg's ``CityscapesDataset``; ``data_root`` is the file or folder.

    Raises:
        ValueError: There is no video, OpenCV cannot read it, or ``every`` is below 1.
    """

    def __init__(
        self,
        condition: Optional[str] = None,
        every: int = 1,
        metainfo: Optional[dict] = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise ValueError(f'VideoFramesDataset: expected every from 1, got {every!r}')
        self.every = every
        self.readers: dict[str, VideoReader] = {}
        super().__init__(condition=condition, metainfo=metainfo, **kwargs)
        for place, transform in enumerate(self.pipeline.transforms):
            if isinstance(transform, CheckedLoadImage):
                self.pipeline.transforms[place] = LoadVideoFrame(self.readers)

    def load_data_list(self) -> list:
        """Lists the frames, without labels."""
        frames = []
        for path in self._videos():
            reader = self.readers[path] = VideoReader(path)
            count = reader.count()
            if not count:
                raise ValueError(f'{type(self).__name__}: {path} cannot be read as a video')
            sequence = osp.splitext(osp.basename(path))[0]
            for number in range(0, count, self.every):
                frames.append(
                    {
                        'img_path': f'{path}/{number:06d}',
                        'video': path,
                        'frame_number': number,
                        'label_map': self.label_map,
                        'reduce_zero_label': self.reduce_zero_label,
                        'seg_fields': [],
                        'condition': self.condition,
                        'sequence': sequence,
                    }
                )
        return frames

    def _videos(self) -> list[str]:
        root = self.data_root
        if osp.isfile(root):
            return [root]
        if not osp.isdir(root):
            raise ValueError(
                f'{type(self).__name__}: the video {root} does not exist, {self._layout_hint()}'
            )
        names = [name for name in self.files_in(root, None) if name.lower().endswith(VIDEOS)]
        if not names:
            raise ValueError(
                f'{type(self).__name__}: the folder {root} holds no video ({", ".join(VIDEOS)}), '
                f'{self._layout_hint()}'
            )
        return [osp.join(root, name) for name in names]

    def _layout_hint(self) -> str:
        return root_hint(self.data_root, 'the videos, or to a video', 'VIDEO')
