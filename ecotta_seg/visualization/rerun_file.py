"""A recording file for the Rerun viewer: frames, masks and numbers on one timeline."""

import inspect
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import cv2
import numpy as np

SUFFIX = '.rrd'
TIMELINE = 'frame'
_FLUSH_SECONDS = 60.0
_JPEG_QUALITY = 85


class RerunFile:
    """Writes ``FILE.part1.rrd`` during the run, and the complete ``FILE.rrd`` at the end.

    The viewer can open a part at any time. If a stopped run resumes, the recording continues in
    ``FILE.part2.rrd``. The earlier part is truncated to its length in the saved state, so that no
    frame is recorded twice. At the end Rerun's own tool joins the parts, and the parts are removed.

    Args:
        path: The output file, ``.rrd``.
        classes: C class names.
        palette: C colours (red, green, blue) from 0 to 255.
        width: Maximum width of pictures in pixels; wider ones are scaled down.

    Raises:
        ImportError: ``rerun`` is not installed.
    """

    def __init__(
        self,
        path: Union[str, Path],
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        width: int = 640,
    ) -> None:
        import rerun

        self._rerun = rerun
        self.path, self.width = Path(path), width
        self._legend = [(i, n, tuple(c)) for i, (n, c) in enumerate(zip(classes, palette))]
        self._dtype = np.uint8 if len(self._legend) < 256 else np.uint16
        self._none = int(np.iinfo(self._dtype).max)
        self._legend.append((self._none, 'none', (0, 0, 0)))
        self._recording: Any = None
        self.number = 0

    def part(self, number: int) -> Path:
        """Returns the path of a part; the first part has number 1."""
        return self.path.with_name(f'{self.path.stem}.part{number}{SUFFIX}')

    def parts(self) -> list[Path]:
        """Returns the paths of the existing parts, in order."""
        found = []
        while self.part(len(found) + 1).is_file():
            found.append(self.part(len(found) + 1))
        return found

    def start(self, name: str) -> None:
        """Starts part 1 and removes the parts of an earlier recording in this file.

        Args:
            name: Name of the recording in the viewer; all parts of a recording share this name.

        Raises:
            OSError: The file cannot be written.
        """
        for path in self.parts():
            path.unlink()
        self._open(1, name)

    def go_on(self, name: str, number: int, size: int) -> bool:
        """Continues a recording: truncates part ``number`` and starts the next part.

        Args:
            name: See ``start``.
            number: The number of the last part to keep.
            size: Number of bytes to keep of this part.

        Returns:
            Whether all earlier parts exist and the last one is long enough. If not, a new recording
            starts.
        """
        there = self.parts()
        whole = len(there) >= number and there[number - 1].stat().st_size >= size
        if not whole:
            self.start(name)
            return False
        os.truncate(there[number - 1], size)
        for path in there[number:]:
            path.unlink()
        self._open(number + 1, name)
        return True

    def _open(self, number: int, name: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.number = number
        with open(self.part(number), 'wb'):
            pass  # Raises if the file cannot be written; Rerun itself would only log the error.
        self._recording = self._rerun.RecordingStream('ecotta_seg', recording_id=name)
        self._recording.save(str(self.part(number)))
        context = self._rerun.AnnotationContext(self._legend)
        self._recording.log('masks', context, static=True)

    def add(
        self,
        step: int,
        image: np.ndarray,
        masks: Mapping[str, Optional[np.ndarray]],
        numbers: Mapping[str, float],
        title: str,
    ) -> None:
        """Adds a frame.

        Args:
            step: Number of the frame on the timeline ``frame``.
            image: (H, W, 3) uint8 RGB.
            masks: (h, w) integer class indices by name, or None; indices of no class are black.
            numbers: The frame's value on each curve, by the curve's name.
            title: Condition, round and name of the frame.
        """
        rr, recording = self._rerun, self._recording
        recording.set_time(TIMELINE, sequence=step)
        height, width = image.shape[:2]
        if width > self.width:
            height, width = max(1, round(height * self.width / width)), self.width
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        picture = rr.Image(np.ascontiguousarray(image))
        recording.log('image', picture.compress(jpeg_quality=_JPEG_QUALITY))
        for name, mask in masks.items():
            if mask is not None:
                known = (mask >= 0) & (mask < len(self._legend) - 1)
                mask = np.where(known, mask, self._none).astype(self._dtype)
                mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
                recording.log(f'masks/{name}', rr.SegmentationImage(mask))
        for name, value in numbers.items():
            recording.log(f'scalars/{name}', rr.Scalars(value))
        recording.log('stream', rr.TextLog(title))

    def flush(self) -> int:
        """Writes all added frames to disk.

        Returns:
            The size of the part in bytes.

        Raises:
            OSError: The frames could not be written.
        """
        flush = self._recording.flush
        # On a full disk newer versions wait forever without a limit; older ones lack this option.
        limited = 'timeout_sec' in inspect.signature(flush).parameters
        try:
            flush(timeout_sec=_FLUSH_SECONDS) if limited else flush(blocking=True)
        except RuntimeError as error:
            raise OSError(f'{self.part(self.number)} cannot be written: {error}') from None
        return self.part(self.number).stat().st_size

    def close(self) -> None:
        """Closes the current part and keeps its file."""
        if self._recording is not None:
            self._recording.disconnect()
            self._recording = None

    def finish(self) -> None:
        """Joins the parts to the final file.

        Raises:
            OSError: The file could not be written; the parts are kept.
        """
        self.flush()
        self.close()
        parts = self.parts()
        joined = parts[0]
        if len(parts) > 1:
            joined = self.path.with_name(f'.{self.path.stem}.joined{SUFFIX}')
            _rrd('merge', *parts, '-o', joined)
        try:
            # A full disk truncates the file without an error.
            _rrd('verify', joined)
            os.replace(joined, self.path)
        finally:
            if len(parts) > 1:
                joined.unlink(missing_ok=True)
        for path in parts:
            path.unlink(missing_ok=True)


def _rrd(*arguments: Any) -> None:
    command = [sys.executable, '-m', 'rerun', 'rrd', *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        said = (run.stderr.strip().splitlines() or ['no output'])[-1]
        raise OSError(f'`rerun rrd {arguments[0]}` failed: {said}')
