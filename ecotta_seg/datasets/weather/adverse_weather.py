"""A deterministic transform of a clear frame to fog, night, rain or snow."""

import hashlib
import os.path as osp
from typing import Optional

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from .weather_recipes import CONDITIONS, SEVERITIES, weather_recipe

DEFAULT_SEVERITY = 3
# Conversion to RGB and back.
_BGR = cv2.COLOR_BGR2RGB, cv2.COLOR_RGB2BGR
_GREY = cv2.COLOR_GRAY2RGB, cv2.COLOR_RGB2GRAY


def frame_seed(frame: str, condition: str, severity: int, seed: int) -> int:
    """Returns the random seed of one frame's weather.

    Args:
        frame: Name of the frame, which must be the same on every machine (no absolute path).
        condition: Name of the condition.
        severity: 1 to 5.
        seed: Seed of the whole dataset; another seed gives other weather of the same kind.

    Returns:
        A number from 0 to 2^64 - 1. Python's ``hash`` would differ between processes.
    """
    key = f'{frame}|{condition}|{severity}|{seed}'.encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), 'little')


@TRANSFORMS.register_module()
class AdverseWeather(BaseTransform):
    """Adds fog, night, rain or snow to a frame.

    The pixels depend only on the image, the stem of its file name, the condition, the severity and
    the seed. They do not depend on the worker, the order, the process, the folder of the dataset or
    the global random state, which does not change. Frames without a path use their pixels instead
    of the file name.

    Put this transform directly after ``LoadImageFromFile``, because streaks and flakes scale with
    the height of the image. Labels do not change. A grey image gets the same weather as its colour
    version, in grey. A fourth channel (alpha, depth, thermal) does not change.

    Args:
        condition: ``'fog'``, ``'night'``, ``'rain'``, ``'snow'``, or ``'clear'`` (no change). None
            reads ``results['condition']``, which
            :class:`~ecotta_seg.datasets.WeatherCityscapesDataset` writes.
        severity: 1 (light) to 5 (severe). None reads ``results['severity']``, or uses 3 if there is
            none.
        seed: Seed of the whole dataset.

    Raises:
        ValueError: The condition or severity is unknown.
    """

    def __init__(
        self, condition: Optional[str] = None, severity: Optional[int] = None, seed: int = 0
    ) -> None:
        self.condition = condition
        self.severity = severity
        self.seed = seed
        self.check({'condition': 'clear'})

    def check(self, results: dict) -> tuple[str, int]:
        """Finds the condition and severity of a frame.

        Args:
            results: May hold ``condition`` and ``severity``.

        Returns:
            Condition and severity. The transform's own values take precedence.

        Raises:
            ValueError: Condition or severity is unknown, or no condition is given.
        """
        condition = self.condition if self.condition is not None else results.get('condition')
        severity = self.severity if self.severity is not None else results.get('severity')
        severity = DEFAULT_SEVERITY if severity is None else severity
        if condition not in CONDITIONS:
            raise ValueError(
                f'AdverseWeather: unknown condition {condition!r}, expected one of '
                f'{", ".join(CONDITIONS)}'
            )
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise ValueError(
                f'AdverseWeather: unknown severity {severity!r}, expected a whole number from '
                f'{SEVERITIES[0]} (light) to {SEVERITIES[-1]} (severe)'
            )
        return condition, int(severity)

    def transform(self, results: dict) -> dict:
        """Adds the weather to the image.

        Args:
            results: Holds ``img`` uint8 and ``img_path``. The image is (H, W, 3) BGR, (H, W) or
                (H, W, 1) grey, or (H, W, 4) with BGR first.

        Returns:
            ``results`` with a new ``img`` of the same shape and dtype.

        Raises:
            ValueError: The condition or severity is unknown.
            TypeError: The image is not uint8, or has another number of channels.
        """
        condition, severity = self.check(results)
        image = results['img']
        channels = image.shape[2] if image.ndim == 3 else 1
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4):
            raise TypeError(
                'AdverseWeather expects a uint8 image (H, W) in grey, (H, W, 3) in BGR, or (H, '
                f'W, 4) with BGR first, not {image.shape} {image.dtype}: put it directly after '
                'LoadImageFromFile, and further channels and scaling after it'
            )
        if condition == 'clear':
            return results
        path = results.get('img_path')
        frame = osp.splitext(osp.basename(path))[0] if path else hashlib.blake2b(image).hexdigest()
        recipe = weather_recipe(condition, severity, image.shape[0])
        recipe.set_random_seed(frame_seed(frame, condition, severity, self.seed))
        # The recipes change hues, so they need RGB order.
        to_colour, back = _GREY if channels == 1 else _BGR
        seen = image if channels == 1 else image[..., :3]
        weathered = cv2.cvtColor(recipe(image=cv2.cvtColor(seen, to_colour))['image'], back)
        if channels > 3:
            weathered = np.dstack([weathered, image[..., 3:]])
        results['img'] = weathered.reshape(image.shape)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(condition={self.condition!r}, severity={self.severity}, '
            f'seed={self.seed})'
        )
