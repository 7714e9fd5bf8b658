"""Procedural driving scenes: seeded, varied, labelled with Cityscapes' 19 classes.

This is not a simulator. The scenes have enough of a street (perspective, occlusion, texture, light)
that a small segmentation network trained on clear scenes degrades in bad weather as networks on
real frames do.
"""

import numpy as np

from . import scene_objects as things
from .scene_canvas import SceneCanvas

SIZE = (256, 128)
_FAR = 75.0


def draw_scene(seed: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
        seed: A number from 0. The same seed gives the same pixels.
        size: (width, height).

    Returns:
        Image, (H, W, 3) uint8 BGR, and label, (H, W) uint8 train ids, 255 for ignored pixels.

    Raises:
        ValueError: The seed is negative, or the size is too small for a scene.
    """
    if seed < 0 or min(size) < 32:
        raise ValueError(f'expected a seed from 0 and a size from 32x32, got {seed} and {size}')
    canvas = SceneCanvas(np.random.default_rng([seed, 20230304]), size)
    _draw_sky(canvas)
    layout = _draw_ground(canvas)
    for _, draw in sorted(_place_things(canvas, layout), key=lambda item: -item[0]):
        draw()
    return canvas.finish()


def _draw_sky(canvas: SceneCanvas) -> None:
    rng = canvas.rng
    rows = np.linspace(0, 1, canvas.height)[:, None, None] ** 0.8
    top = np.array([rng.uniform(190, 235), rng.uniform(140, 185), rng.uniform(95, 150)])
    image = top * (1 - rows) + canvas.haze * rows
    clouds = np.clip(canvas.noise(48) + 0.6 * canvas.noise(20) - rng.uniform(0, 1.2), 0, 1)
    canvas.image[:] = image * (1 - 0.7 * clouds) + 240 * 0.7 * clouds
    canvas.label[:] = things.SKY
    # A line of far woods or roofs on the horizon.
    far = things.VEGETATION if rng.random() < 0.6 else things.BUILDING
    color = (85, 115, 90) if far == things.VEGETATION else (130, 130, 135)
    ridge = (
        canvas.noise(24)[0, :, 0] * 0.012 * canvas.height + rng.uniform(0.02, 0.07) * canvas.height
    )
    columns = np.arange(canvas.width)
    outline = np.stack([columns, canvas.horizon - np.maximum(ridge, 1)], axis=1)
    base = [[canvas.width, canvas.horizon + 3], [0, canvas.horizon + 3]]
    canvas.fill(np.concatenate([outline, base]), color, far, 60)


def _draw_ground(canvas: SceneCanvas) -> dict:
    rng = canvas.rng
    half = rng.uniform(3.4, 5.4)
    pavement = rng.uniform(1.8, 3.4)
    x, z = canvas.ground()
    below = np.isfinite(z)
    side = np.abs(x)
    road, path = below & (side < half), below & (side >= half) & (side < half + pavement)
    grass = below & (side >= half + pavement)
    share = np.nan_to_num(np.exp(-z / 110.0))[..., None]
    asphalt = rng.uniform(78, 112)
    colors = {
        things.ROAD: (road, np.array([asphalt + 4, asphalt, asphalt])),
        things.SIDEWALK: (path, np.array([1.0, 1.0, 1.02]) * rng.uniform(135, 170)),
        things.TERRAIN: (grass, np.array([70.0, rng.uniform(115, 140), rng.uniform(95, 125)])),
    }
    grain = 4 * canvas.noise(2) + 6 * canvas.noise(30)
    for train_id, (mask, color) in colors.items():
        shaded = color * share + canvas.haze * (1 - share) + grain
        canvas.image[mask] = np.broadcast_to(shaded, canvas.image.shape)[mask]
        canvas.label[mask] = train_id
    # Kerbs, joints of the pavement, and lane markings.
    kerb = below & (np.abs(side - half) < 0.1)
    joints = path & (np.mod(z, 1.6) < 0.08)
    canvas.image[kerb] = canvas.image[kerb] * 0.5 + 95
    canvas.image[joints] *= 0.85
    dashed = (np.abs(x) < 0.09) & (np.mod(z + rng.uniform(0, 6), 6) < 3)
    edges = np.abs(side - half + 0.35) < 0.07
    marks = below & (dashed | edges) & (z < _FAR)
    canvas.image[marks] = canvas.image[marks] * 0.25 + 165
    # Soft dark patches, like sun through trees.
    canvas.image *= np.where(below[..., None], 1 - 0.12 * np.clip(canvas.noise(40), 0, 1), 1)
    return dict(half=half, edge=half + pavement)


def _place_things(canvas: SceneCanvas, layout: dict) -> list:
    """(distance, draw function) of each object in the scene."""
    rng, half, edge = canvas.rng, layout['half'], layout['edge']
    placed = []

    def put(z: float, function, *args) -> None:
        placed.append((z, lambda: function(canvas, *args)))

    town = rng.random()
    for side in (-1, 1):
        z = rng.uniform(4, 12)
        while z < _FAR:
            length = rng.uniform(7, 18)
            x = edge + rng.uniform(0.2, 1.5) + (3.0 if town > 0.7 else 0.0)
            kind = rng.random()
            if kind < 0.62 - 0.4 * (town > 0.7):
                put(z, things.draw_building, side, x, z, z + length)
            elif kind < 0.75:
                barrier = things.WALL if rng.random() < 0.5 else things.FENCE
                put(z, things.draw_barrier, side, x, z, z + length, barrier)
            elif kind < 0.85:
                put(z, things.draw_hedge, side, x, z, z + length)
            else:
                for tree in np.arange(z, z + length, 4.5):
                    put(tree, things.draw_tree, side * (x + rng.uniform(0, 3)), tree)
            z += length + rng.uniform(0, 5)
        for z in np.arange(rng.uniform(7, 20), _FAR, rng.uniform(13, 22)):
            carried = rng.choice([things.POLE, things.POLE, things.LIGHT, things.SIGN, things.SIGN])
            put(z, things.draw_pole, side * (half + 0.45), z, int(carried))
        for z in rng.uniform(7, 45, rng.poisson(2.0)):
            put(z, things.draw_person, side * rng.uniform(half + 0.5, edge - 0.3), z)
        # Parked along the kerb.
        for z in rng.uniform(7, 60, rng.poisson(1.6)):
            put(z, things.draw_vehicle, side * (half - 1.1), z, things.CAR)
        for z in rng.uniform(6, 30, rng.poisson(0.8)):
            kind = things.BICYCLE if rng.random() < 0.65 else things.MOTORCYCLE
            put(z, things.draw_two_wheeler, side * (half - 0.5), z, kind, bool(rng.random() < 0.55))
    kinds = [things.CAR, things.TRUCK, things.BUS, things.TRAIN]
    for z in rng.uniform(9, 65, rng.poisson(2.4)):
        kind = int(rng.choice(kinds, p=[0.62, 0.16, 0.14, 0.08]))
        lane = rng.choice([-1, 1]) * half * 0.42
        put(z, things.draw_vehicle, lane, z, kind)
    return placed
