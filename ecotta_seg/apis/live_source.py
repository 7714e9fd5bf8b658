"""The newest frames of a camera or of a network stream."""

import re
import threading
from collections.abc import Iterator
from typing import Optional, Union

import cv2
import numpy as np

_OPEN_MILLISECONDS = _READ_MILLISECONDS = 10_000


def live_address(text: str) -> Union[None, int, str]:
    """Parses the name of a camera or of a network stream.

    Args:
        text: For example ``'0'`` (the first camera) or ``'rtsp://camera/stream'``.

    Returns:
        The number of a camera, an address, or None for the path of a file or folder.
    """
    if re.fullmatch(r'\d{1,4}', text):
        return int(text)
    return text if re.match(r'[A-Za-z][A-Za-z0-9+.-]+://', text) else None


def shown_address(address: Union[int, str]) -> str:
    """Returns an address for messages, without the user's name and password."""
    if isinstance(address, int):
        return f'camera {address}'
    return re.sub(r'//[^/@]*@', '//', address)


class LiveSource:
    """Iterates over the newest frames of a camera or a network stream.

    A thread reads all frames, and each iteration yields the newest one. Frames that arrived in
    between are skipped and counted, so that a slow model does not fall behind the camera.

    Args:
        address: The number of a camera, or an address that OpenCV opens (RTSP, HTTP, UDP).

    Attributes:
        rate: Frames per second that the camera reports, or 10.
        count: None, because the number of frames is unknown.
        left_out: Number of skipped frames.

    Raises:
        ValueError: The camera or the stream cannot be opened, or gives no frame.
    """

    count: Optional[int] = None

    def __init__(self, address: Union[int, str]) -> None:
        self.name = shown_address(address)
        self._capture = _opened(address)
        there, frame = self._capture.read() if self._capture.isOpened() else (False, None)
        if not there:
            self._capture.release()
            raise ValueError(
                f'{self.name} gives no frames: expected the number of a camera that is free, or an '
                'address that OpenCV can open, such as rtsp://host/stream'
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if rate and 0 < rate < 1000 else 10.0
        self.left_out = 0
        self._newest: tuple[int, np.ndarray] = (0, frame)
        self._fresh, self._ended, self._stopped = True, False, False
        self._change = threading.Condition()

    def stop(self) -> None:
        """Ends the stream after the current frame; a signal handler may call this."""
        # No lock here: the interrupted code may hold the lock.
        self._stopped = True

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the number and the (H, W, 3) uint8 BGR picture of the newest frame.

        No frame is yielded twice. The object can be iterated over only once.
        """
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        expected = 0
        try:
            while True:
                with self._change:
                    while not (self._fresh or self._ended or self._stopped):
                        self._change.wait(0.1)
                    if self._stopped or not self._fresh:
                        return
                    number, frame = self._newest
                    self._fresh = False
                self.left_out += number - expected
                expected = number + 1
                yield f'{number:06d}', frame
        finally:
            self._stopped = True
            reader.join(_READ_MILLISECONDS / 1000)
            if not reader.is_alive():
                self._capture.release()

    def _read(self) -> None:
        number = 0
        while not self._stopped:
            there, frame = self._capture.read()
            with self._change:
                if not there:
                    self._ended = True
                    self._change.notify()
                    return
                number += 1
                self._newest, self._fresh = (number, frame), True
                self._change.notify()


def _opened(address: Union[int, str]) -> cv2.VideoCapture:
    if isinstance(address, int):
        return cv2.VideoCapture(address)
    waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MILLISECONDS]
    waits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_MILLISECONDS]
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, waits)
