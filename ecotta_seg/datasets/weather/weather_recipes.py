"""Fog, night, rain and snow of five severities, each a composition of albumentations transforms.

The severities are graded by the mIoU that a segmentor trained on clear days loses: a little at 1,
more at each step, and least in rain and most at night at 5.
"""

import threading

from ...names.choices import WEATHER
from .weather_effects import A, NightLight, Particles, PerspectiveFog, Precipitation

CONDITIONS = ('clear', *WEATHER)
SEVERITIES = (1, 2, 3, 4, 5)

_local = threading.local()


def _fog(level: int, height: int) -> list:
    density = (0.6, 1.0, 1.4, 1.8, 2.3)[level]
    return [
        A.HueSaturationValue(0, (-5 * level - 5,) * 2, 0, p=1),
        PerspectiveFog(density, banks=0.3),
    ]


def _night(level: int, height: int) -> list:
    exposure = (0.45, 0.28, 0.18, 0.12, 0.08)[level]
    noise = (0.004, 0.007, 0.010, 0.013, 0.017)[level]
    blur = _odd(height * (0.004, 0.006, 0.008, 0.011, 0.014)[level])
    return [
        A.HueSaturationValue(0, (-15 - 8 * level,) * 2, 0, p=1),
        NightLight(exposure, headlights=exposure * 4),
        A.MotionBlur((blur, blur), allow_shifted=False, angle_range=(0, 20), p=1),
        A.GaussNoise((noise, noise * 1.3), p=1),
    ]


def _rain(level: int, height: int) -> list:
    density = (0.2, 0.35, 0.5, 0.65, 0.8)[level]
    dim = (0.93, 0.90, 0.87, 0.83, 0.79)[level]
    blur = _odd(height * 0.008)
    far = ('drizzle', 'default', 'default', 'heavy', 'heavy')[level]
    near = ('drizzle', 'drizzle', 'drizzle', 'default', 'default')[level]
    length = (14, 17, 20, 23, 26)[level]
    return [
        A.HueSaturationValue(0, (-5 - 5 * level,) * 2, 0, p=1),
        PerspectiveFog(density, banks=0.2, airlight=(175, 195)),
        A.MultiplicativeNoise((dim, dim), p=1),
        Precipitation(
            # Wide box filters: a real streak is soft, visible by its length and not by its edges.
            [Particles(far, length, 1, 5), Particles(near, 3 * length, 2, 9)],
            opacity=(0.20, 0.22, 0.24, 0.25, 0.26)[level],
            slant=5,
            tone=(200, 205, 210),
        ),
        # The film of water on the windscreen blurs the scene and the streaks.
        A.GaussianBlur((blur, blur), p=1),
    ]


def _snow(level: int, height: int) -> list:
    density = (0.2, 0.4, 0.6, 0.8, 1.1)[level]
    ground = (0.05, 0.12, 0.2, 0.3, 0.4)[level]
    bleach = (1.08, 1.16, 1.28, 1.4, 1.55)[level]
    flakes = [
        Particles('default', 2, 1, 2),
        Particles('heavy', 2, 1, 2),
        Particles('default', 3, 2, 2),
        Particles('heavy', 3, 2, 3),
        Particles('default', 4, 4, 3),
        Particles('drizzle', 6, 6, 5),
    ][: level + 2]
    return [
        A.HueSaturationValue(0, (-10 - 8 * level,) * 2, 0, p=1),
        A.RandomSnow(brightness_coeff=bleach, snow_point_range=(ground, ground), p=1),
        PerspectiveFog(density, banks=0.2, airlight=(205, 220)),
        Precipitation(flakes, opacity=0.6, slant=1, tone=(245, 247, 250)),
    ]


_RECIPES = {'fog': _fog, 'night': _night, 'rain': _rain, 'snow': _snow}


def weather_recipe(condition: str, severity: int, height: int) -> A.Compose:
    """Returns the composition of one weather; seed the composition before each frame.

    Args:
        condition: One of ``CONDITIONS`` except ``'clear'``.
        severity: 1 to 5.
        height: Height of the images in pixels.

    Returns:
        The composition for (H, W, 3) uint8 RGB images. Each thread has its own object, because the
        composition has a random state; calls of one thread return the same object.
    """
    cache = vars(_local).setdefault('recipes', {})
    key = (condition, severity, height)
    if key not in cache:
        if len(cache) >= 64:  # Frames of many heights must not fill the memory.
            cache.clear()
        cache[key] = A.Compose(_RECIPES[condition](severity - 1, height))
    return cache[key]


def _odd(pixels: float) -> int:
    return max(3, 2 * round((pixels - 1) / 2) + 1)
