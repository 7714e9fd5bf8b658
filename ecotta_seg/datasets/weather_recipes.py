"""Fog, night, rain and snow of five severities, each a composition of albumentations transforms.

Lengths are fractions of the image's height, so that a frame looks alike at every resolution.
"""

import os
import threading
from typing import Any

import cv2
import numpy as np

# albumentations asks a server for a newer release when it is imported.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

import albumentations as A  # noqa: E402

CONDITIONS = ('clear', 'fog', 'night', 'rain', 'snow')
SEVERITIES = (1, 2, 3, 4, 5)
# Particles this much coarser than the image look the same once blurred, and cost far less.
_COARSE_HEIGHT = 45

_local = threading.local()


class PerspectiveFog(A.ImageOnlyTransform):
    """Fog that thickens with distance, with drifting banks.

    Koschmieder's law, I = J t + A (1 - t) with t = exp(-density * distance) (Sakaridis et al.,
    "Semantic Foggy Scene Understanding with Synthetic Data", IJCV 2018, equation 1). Without a
    depth map the distance is that of a road scene: zero at the bottom edge, one at the horizon
    and above it, nearer towards the left and right edge, where houses and trees stand. Banks are
    albumentations' ``RandomFog``, drawn small.

    Args:
        density: Optical depth at the horizon.
        banks: How much the density varies from place to place, 0 to 1.
        airlight: Range of the fog's grey, 0 to 255.
        p: Probability of the transform.
    """

    def __init__(
        self,
        density: float,
        banks: float = 0.3,
        airlight: tuple = (200, 215),
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.density = density
        self.banks = banks
        self.airlight = airlight
        self._particles = A.RandomFog(alpha_coef=0.08, fog_coef_range=(0.6, 0.8), p=1)

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        """Draws the banks and the airlight."""
        height, width = params['shape'][:2]
        small = (_COARSE_HEIGHT, max(8, round(width * _COARSE_HEIGHT / height)), 3)
        self._particles.set_random_state(self.random_generator, self.py_random)
        banks = self._particles(image=np.zeros(small, np.uint8))['image'][..., 0]
        banks = banks.astype(np.float32) / max(1, int(banks.max()))
        distance = _road_distance(*small[:2])
        depth = self.density * distance * (1 - self.banks + 2 * self.banks * banks)
        return {
            'transmission': np.exp(-depth),
            'airlight': self.py_random.uniform(*self.airlight),
        }

    def apply(
        self, img: np.ndarray, transmission: np.ndarray, airlight: float, **params: Any
    ) -> np.ndarray:
        """Mixes the image with the airlight."""
        height, width = img.shape[:2]
        full = cv2.resize(transmission, (width, height), interpolation=cv2.INTER_CUBIC)
        full = cv2.merge([full, full, full])
        mixed = (img.astype(np.float32) - airlight) * full + airlight
        return np.clip(mixed, 0, 255).astype(np.uint8)


def _road_distance(height: int, width: int, horizon: float = 0.42) -> np.ndarray:
    rows = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height
    columns = (np.arange(width, dtype=np.float32)[None] + 0.5) / width
    below = np.clip((rows - horizon) / (1 - horizon), 0, 1)
    # A flat road's distance goes with 1 / (row - horizon); shifted to be finite and in [0, 1].
    road = (1 / (below + 0.15) - 1 / 1.15) / (1 / 0.15 - 1 / 1.15)
    sides = 1 - 0.55 * np.abs(2 * columns - 1) ** 1.5
    return np.clip(0.12 + 0.88 * np.maximum(road, 0.35 * (1 - below) ** 2) * sides, 0, 1)


class NightLight(A.ImageOnlyTransform):
    """The light of a night drive: dim, bluish street light, and the car's own cone of light.

    Args:
        exposure: Factor on the linear light away from the cone.
        headlights: Factor on the linear light in the middle of the cone.
        p: Probability of the transform.
    """

    def __init__(self, exposure: float, headlights: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.exposure = exposure
        self.headlights = headlights

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        """Draws where the cone points and the colour of the ambient light."""
        draw = self.py_random.uniform
        return {'aim': draw(0.45, 0.55), 'warmth': draw(-0.05, 0.10)}

    def apply(self, img: np.ndarray, aim: float, warmth: float, **params: Any) -> np.ndarray:
        """Darkens the image in linear light."""
        height, width = img.shape[:2]
        rows = (np.arange(_COARSE_HEIGHT, dtype=np.float32)[:, None] + 0.5) / _COARSE_HEIGHT
        columns = (np.arange(_COARSE_HEIGHT, dtype=np.float32)[None] + 0.5) / _COARSE_HEIGHT
        cone = np.exp(-(((columns - aim) / 0.33) ** 2) - ((rows - 0.72) / 0.22) ** 2)
        # Daylight comes from the sky; at night that is the darkest part.
        sky = 1 / (1 + np.exp((rows - 0.30) / 0.06))
        gain = self.exposure * (1 - 0.6 * sky) + (self.headlights - self.exposure) * cone
        gain = cv2.resize(gain, (width, height), interpolation=cv2.INTER_CUBIC)
        # Gains are for linear light: their 2.2th root acts on the stored values.
        gain = np.maximum(gain, 1e-4) ** (1 / 2.2)
        tint = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
        dark = img.astype(np.float32) * cv2.merge([gain * tint[0], gain, gain * tint[2]])
        return np.clip(dark, 0, 255).astype(np.uint8)


def _fog(level: int, height: int) -> list:
    density = (1.2, 2.0, 2.8, 3.8, 5.0)[level]
    return [
        A.HueSaturationValue(0, (-5 * level - 5,) * 2, 0, p=1),
        PerspectiveFog(density, banks=0.3),
    ]


def _night(level: int, height: int) -> list:
    exposure = (0.22, 0.12, 0.07, 0.04, 0.022)[level]
    noise = (0.008, 0.014, 0.022, 0.032, 0.045)[level]
    blur = _odd(height * (0.004, 0.006, 0.008, 0.011, 0.014)[level])
    return [
        A.HueSaturationValue(0, (-15 - 8 * level,) * 2, 0, p=1),
        NightLight(exposure, headlights=exposure * 2.5),
        A.MotionBlur((blur, blur), allow_shifted=False, angle_range=(0, 20), p=1),
        A.GaussNoise((noise, noise * 1.3), p=1),
    ]


def _rain(level: int, height: int) -> list:
    kind = ('drizzle', 'default', 'heavy', 'torrential', 'torrential')[level]
    density = (0.3, 0.5, 0.8, 1.1, 1.5)[level]
    dim = (0.9, 0.85, 0.78, 0.72, 0.65)[level]
    blur = _odd(height * (0.003, 0.005, 0.007, 0.009, 0.011)[level])
    drop = max(3, round(height * (0.05, 0.07, 0.09, 0.12, 0.16)[level]))
    width = max(1, round(height / 360))
    streaks = A.RandomRain(
        slant_range=(-15, 15),
        drop_length=drop,
        drop_width=width,
        drop_color=(150, 155, 160),
        blur_value=3 * width,
        brightness_coefficient=dim,
        rain_type=kind,
        p=1,
    )
    return [
        A.HueSaturationValue(0, (-10 - 6 * level,) * 2, 0, p=1),
        PerspectiveFog(density, banks=0.2, airlight=(165, 185)),
        A.GaussianBlur((blur, blur), p=1),
        streaks,
    ]


def _snow(level: int, height: int) -> list:
    point = (0.15, 0.25, 0.4, 0.55, 0.7)[level]
    density = (0.3, 0.5, 0.8, 1.1, 1.4)[level]
    bleach = (1.4, 1.6, 1.8, 2.1, 2.4)[level]
    width = max(1, round(height / 180))
    flakes = [
        A.RandomRain(
            slant_range=(-8, 8),
            drop_length=max(1, round(height * 0.008)),
            drop_width=max(1, round(width * size)),
            drop_color=(225, 228, 235),
            blur_value=width + 1,
            brightness_coefficient=1,
            rain_type=kind,
            p=1,
        )
        for size, kind in ((1, 'torrential'), (1.6, 'heavy'))[: 1 if level < 2 else 2]
    ]
    return [
        A.RandomSnow(brightness_coeff=bleach, snow_point_range=(point, point), p=1),
        PerspectiveFog(density, banks=0.2, airlight=(205, 220)),
        *flakes,
    ]


_RECIPES = {'fog': _fog, 'night': _night, 'rain': _rain, 'snow': _snow}


def weather_recipe(condition: str, severity: int, height: int) -> A.Compose:
    """The composition that makes one weather; seed it before each frame.

    Args:
        condition: One of ``CONDITIONS`` but ``'clear'``.
        severity: 1 to 5.
        height: Of the images, in pixels.

    Returns:
        The composition, for (H, W, 3) uint8 RGB images. The same object on each call of one
        thread: threads have their own, since its random state is.
    """
    cache = vars(_local).setdefault('recipes', {})
    key = (condition, severity, height)
    if key not in cache:
        if len(cache) >= 64:  # Frames of ever new heights must not fill the memory.
            cache.clear()
        cache[key] = A.Compose(_RECIPES[condition](severity - 1, height))
    return cache[key]


def _odd(pixels: float) -> int:
    return max(3, 2 * round((pixels - 1) / 2) + 1)
