"""Reads frames from a video or a folder and writes pictures to either, with OpenCV."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

import cv2
import numpy as np

from ..datasets.checks.frame_error import FrameError, check_image_bytes
from ..datasets.video_frames import VideoReader
from ..files.atomic_io import atomic_write
from ..files.png_file import atomic_write_png
from ..names.file_names import safe_file_name
from ..startup.first_look import images_of, is_video_output

_CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG', '.mkv': 'mp4v', '.mov': 'mp4v'}


class FrameSource:
    """Iterates over the frames of a video file, or over a folder's images in the order of names.

    Args:
        path: The file or folder.

    Raises:
        ValueError: ``path`` does not exist, holds no images, or is no video that OpenCV can read.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path)
        self.files: Optional[list[Path]] = None
        self.rate = 10.0
        if self.path.is_dir():
            self.files = images_of(self.path)
            self.count: Optional[int] = len(self.files)
            return
        if not self.path.is_file():
            raise ValueError(f'expected a video file or a folder of images: {path} does not exist')
        video = cv2.VideoCapture(str(path))
        readable = video.isOpened() and video.read()[0]
        count, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        video.release()
        if not readable:
            raise ValueError(f'{path} cannot be read as a video')
        # Streams and truncated files report no length, or a wrong one.
        self.count = int(count) if count and count > 0 else None
        self.rate = float(rate) if rate and 0 < rate < 1000 else self.rate

    def __iter__(self) -> Iterator[tuple[str, Optional[np.ndarray]]]:
        """Yields the name and the (H, W, 3) uint8 BGR picture of each frame.

        The picture is None if an image file cannot be decoded.
        """
        if self.files is not None:
            stems = Counter(path.stem for path in self.files)
            for path in self.files:
                # Output pictures use this name: two files must not share one.
                yield path.stem if stems[path.stem] == 1 else path.name, _read(path)
            return
        video = cv2.VideoCapture(str(self.path))
        try:
            number = 0
            while True:
                there, frame = video.read()
                if not there:
                    return
                yield f'{number:06d}', frame
                number += 1
        finally:
            video.release()


def _read(path: Path) -> Optional[np.ndarray]:
    try:
        content = path.read_bytes()
        check_image_bytes(str(path), content)
    except (OSError, FrameError):
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


class PictureSink:
    """Writes pictures to a video file (by its suffix) or, as PNG, into a folder.

    A video gets its name only at the end, after a check that all of its frames can be read. If a
    run dies, there is no partial video of this name.

    Args:
        path: A name that ends in .mp4, .avi, .mkv or .mov, or a folder.
        rate: Frames per second of a video.

    Raises:
        ValueError: The suffix belongs to no supported video format.
    """

    def __init__(self, path: Union[str, Path], rate: float = 10.0) -> None:
        self.path, self.rate = Path(path), rate
        self.is_video = is_video_output(self.path)
        self._writer: Optional[cv2.VideoWriter] = None
        self._context = None
        self._written = 0

    def __enter__(self) -> 'PictureSink':
        if not self.is_video:
            self.path.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, name: str, picture: np.ndarray) -> None:
        """Adds a picture.

        Args:
            name: Name of the file in a folder.
            picture: (H, W, 3) uint8 BGR, always of the same size.

        Raises:
            OSError: The picture cannot be written.
        """
        if not self.is_video:
            atomic_write_png(self.path / f'{safe_file_name(name)}.png', picture)
            return
        if self._writer is None:
            self._context = atomic_write(self.path)
            self._temporary = self._context.__enter__()
            self._size = picture.shape[1::-1]
            codec = cv2.VideoWriter_fourcc(*_CODECS[self.path.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._temporary), codec, self.rate, self._size)
            if not self._writer.isOpened():
                raise OSError(f'{self.path}: OpenCV cannot write this kind of video here')
        if picture.shape[1::-1] != self._size:
            picture = cv2.resize(picture, self._size)
        self._writer.write(picture)
        self._written += 1

    def __exit__(self, *error) -> None:
        if self._context is None:
            return
        failed = None
        if self._writer is not None:
            self._writer.release()
        if error[0] is None:
            # OpenCV reports no error if the disk is full.
            there = VideoReader(str(self._temporary)).count()
            if there != self._written:
                failed = OSError(
                    f'{self.path}: {there} of {self._written} frames could be written; is the '
                    'disk full? The incomplete file was removed; an earlier file is unchanged'
                )
                error = (OSError, failed, None)
        self._context.__exit__(*error)
        if failed is not None:
            raise failed
