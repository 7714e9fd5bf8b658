"""Weather effects that albumentations does not have: fog with depth, night light, precipitation.

Each effect is an albumentations transform of (H, W, 3) uint8 RGB images with its own random state.
Random patterns are drawn on a small canvas and scaled to the image. So a frame looks alike at every
resolution, at a low cost.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

# On import, albumentations asks a server for a newer release.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

import albumentations as A  # noqa: E402

# Height of the fog banks' canvas: banks are blurred, so a coarse canvas looks the same.
_COARSE_HEIGHT = 45
# Height at which streaks and flakes are drawn.
_REFERENCE_HEIGHT = 360


class PerspectiveFog(A.ImageOnlyTransform):
    """Fog that thickens with distance, with drifting banks.

    The fog follows Koschmieder's law, I = J t + A (1 - t) with t = exp(-density * distance)
    (Sakaridis et al., "Semantic Foggy Scene Understanding with Synthetic Data", IJCV 2018, equation
    1). There is no depth map, so the distance follows a road scene: zero at the bottom edge, one at
    and above the horizon, and less towards the left and right edge because of houses and trees.
    Banks come from albumentations' ``RandomFog``, drawn small.

    Args:
        density: Optical depth at the horizon.
        banks: Spatial variation of the density, 0 to 1.
        airlight: Range of the fog's grey value, 0 to 255.
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
    # The distance on a flat road is proportional to 1 / (row - horizon); shifted into [0, 1].
    road = (1 / (below + 0.15) - 1 / 1.15) / (1 / 0.15 - 1 / 1.15)
    sides = 1 - 0.55 * np.abs(2 * columns - 1) ** 1.5
    return np.clip(0.12 + 0.88 * np.maximum(road, 0.35 * (1 - below) ** 2) * sides, 0, 1)


class NightLight(A.ImageOnlyTransform):
    """The light of a night drive: dim, bluish street light, and the car's headlight cone.

    Args:
        exposure: Factor for the linear light outside the cone.
        headlights: Factor for the linear light in the middle of the cone.
        p: Probability of the transform.
    """

    def __init__(self, exposure: float, headlights: float, p: float = 1.0) -> None:
        super().__init__(p=p)
        self.exposure = exposure
        self.headlights = headlights

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        """Draws the direction of the cone and the colour of the ambient light."""
        draw = self.py_random.uniform
        return {'aim': draw(0.45, 0.55), 'warmth': draw(-0.05, 0.10)}

    def apply(self, img: np.ndarray, aim: float, warmth: float, **params: Any) -> np.ndarray:
        """Darkens the image in linear light."""
        height, width = img.shape[:2]
        rows = (np.arange(_COARSE_HEIGHT, dtype=np.float32)[:, None] + 0.5) / _COARSE_HEIGHT
        columns = (np.arange(_COARSE_HEIGHT, dtype=np.float32)[None] + 0.5) / _COARSE_HEIGHT
        cone = np.exp(-(((columns - aim) / 0.33) ** 2) - ((rows - 0.72) / 0.22) ** 2)
        # Daylight comes from the sky; at night the sky is the darkest part.
        sky = 1 / (1 + np.exp((rows - 0.30) / 0.06))
        gain = self.exposure * (1 - 0.6 * sky) + (self.headlights - self.exposure) * cone
        gain = cv2.resize(gain, (width, height), interpolation=cv2.INTER_CUBIC)
        # Gains apply to linear light, so stored values get the 2.2th root of the gain.
        gain = np.maximum(gain, 1e-4) ** (1 / 2.2)
        tint = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
        dark = img.astype(np.float32) * cv2.merge([gain * tint[0], gain, gain * tint[2]])
        return np.clip(dark, 0, 255).astype(np.uint8)


class Particles(NamedTuple):
    """One layer of streaks or flakes, drawn by albumentations' ``RandomRain``.

    Attributes:
        amount: ``'drizzle'`` (90 particles), ``'default'`` (120), ``'heavy'`` (360) or
            ``'torrential'`` (720).
        length: Length in pixels of a frame of height 360.
        width: Thickness of the line in the same pixels.
        blur: Size of the box filter in the same pixels; the filter also makes a thin line fainter.
    """

    amount: str
    length: int
    width: int
    blur: int


class Precipitation(A.ImageOnlyTransform):
    """Rain streaks or snow flakes in front of the scene.

    Args:
        layers: Layers of particles, from far to near.
        opacity: Opacity of a particle, 0 to 1.
        slant: Largest sideways offset along a particle, per 20 pixels of length.
        tone: RGB of the particles, 0 to 255.
        p: Probability of the transform.
    """

    def __init__(
        self,
        layers: Sequence[Particles],
        opacity: float,
        slant: float,
        tone: tuple,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.layers = tuple(layers)
        self.opacity = opacity
        self.slant = slant
        self.tone = tone

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        """Draws the particles at the reference height."""
        height, width = params['shape'][:2]
        wide = max(16, round(width * _REFERENCE_HEIGHT / height))
        black = np.zeros((_REFERENCE_HEIGHT, wide, 3), np.uint8)
        wind = self.py_random.uniform(-self.slant, self.slant)
        cover = black[..., 0]
        for layer in self.layers:
            slant = min(20, max(-20, wind * layer.length / 20))
            rain = A.RandomRain(
                slant_range=(slant, slant),
                drop_length=layer.length,
                drop_width=layer.width,
                drop_color=(255, 255, 255),
                blur_value=layer.blur,
                brightness_coefficient=1,
                rain_type=layer.amount,
                p=1,
            )
            rain.set_random_state(self.random_generator, self.py_random)
            cover = np.maximum(cover, rain(image=black)['image'][..., 0])
        return {'cover': cover}

    def apply(self, img: np.ndarray, cover: np.ndarray, **params: Any) -> np.ndarray:
        """Blends the particles into the image."""
        height, width = img.shape[:2]
        alpha = cv2.resize(cover, (width, height), interpolation=cv2.INTER_LINEAR)
        alpha = alpha.astype(np.float32)[..., None] * (self.opacity / 255)
        mixed = img + alpha * (np.array(self.tone, np.float32) - img)
        return np.clip(mixed, 0, 255).astype(np.uint8)
