"""The objects of a driving scene, each drawn on a canvas at a place on the ground.

Train ids are Cityscapes' ids. All places and sizes are in metres; colours are BGR, 0 to 255.
"""

import numpy as np

from .scene_canvas import SceneCanvas

(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, VEGETATION, TERRAIN, SKY, PERSON, RIDER,
 CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE) = range(19)  # fmt: skip

_PAINTS = np.array(
    [[40, 40, 45], [200, 200, 205], [150, 150, 155], [50, 40, 150], [130, 70, 40], [60, 90, 60],
     [230, 230, 230], [40, 110, 160]], float
)  # fmt: skip


def _jitter(canvas: SceneCanvas, color, amount: float = 12) -> np.ndarray:
    return np.clip(np.asarray(color, float) + canvas.rng.normal(0, amount, 3), 5, 250)


def _shadow(canvas: SceneCanvas, x0: float, x1: float, z: float, depth: float) -> None:
    points = canvas.project([x0, x1, x1, x0], 0.0, [z - 0.3, z - 0.3, z + depth, z + depth])
    canvas.fill(points, (38, 36, 36), -1, 1.0)


def draw_building(canvas, side: int, x: float, z0: float, z1: float) -> None:
    """A house along the road: a wall with windows to the street, and a wall to the camera."""
    rng = canvas.rng
    height = rng.uniform(6, 17)
    color = _jitter(canvas, rng.choice([[120, 140, 165], [90, 105, 140], [150, 155, 160],
                                        [95, 120, 175], [130, 125, 120]]), 10)  # fmt: skip
    far = side * x + side * rng.uniform(8, 14)
    near = side * x
    front = canvas.project([near, far, far, near], [0, 0, height, height], z0)
    canvas.fill(front, color * 0.82, BUILDING, z0)
    z = np.array([z0, z1, z1, z0])
    canvas.fill(canvas.project(near, [0, 0, height, height], z), color, BUILDING, (z0 + z1) / 2)
    glass = _jitter(canvas, (95, 80, 70), 15)
    for floor in np.arange(1.2, height - 1.4, 3.1):
        for start in np.arange(z0 + 0.8, z1 - 1.4, 2.9):
            z = np.array([start, start + 1.3, start + 1.3, start])
            window = canvas.project(near, floor + np.array([0, 0, 1.5, 1.5]), z)
            canvas.fill(window, glass, BUILDING, start)


def draw_tree(canvas, x: float, z: float) -> None:
    """A tree: a trunk under a crown of many discs."""
    rng = canvas.rng
    height = rng.uniform(4.5, 9)
    canvas.box(x - 0.16, x + 0.16, 0, height * 0.6, z, _jitter(canvas, (45, 60, 75)), VEGETATION)
    green = _jitter(canvas, (45, 105, 70), 14)
    spread = height * rng.uniform(0.22, 0.34)
    for _ in range(22):
        dx, dy = rng.normal(0, spread * 0.5), rng.normal(0, spread * 0.45)
        radius = spread * rng.uniform(0.25, 0.5)
        light = 0.75 + 0.35 * (dy / spread + 0.5)
        canvas.disc(x + dx, height * 0.72 + dy, z, radius, radius * 0.85, green * light, VEGETATION)


def draw_hedge(canvas, side: int, x: float, z0: float, z1: float) -> None:
    """A bush along the pavement."""
    green = _jitter(canvas, (50, 110, 80), 10)
    for z in np.arange(z1, z0, -0.9):
        canvas.disc(side * x, 0.7, z, 0.8, canvas.rng.uniform(0.6, 1.0),
                    green * canvas.rng.uniform(0.8, 1.15), VEGETATION)  # fmt: skip


def draw_barrier(canvas, side: int, x: float, z0: float, z1: float, train_id: int) -> None:
    """A wall (solid) or a fence (posts and rails) along the road."""
    height = canvas.rng.uniform(1.0, 1.9)
    z = np.array([z0, z1, z1, z0])
    y = np.array([0, 0, height, height])
    outline = canvas.project(side * x, y, z)
    if train_id == WALL:
        canvas.fill(outline, _jitter(canvas, (140, 145, 150)), WALL, (z0 + z1) / 2)
        return
    # A fence is one region in the labels, although it is see-through.
    canvas.fill(outline, _jitter(canvas, (105, 125, 125)), FENCE, (z0 + z1) / 2)
    for post in np.arange(z0, z1, 0.8):
        slab = canvas.project(side * x, y, np.array([post, post + 0.15, post + 0.15, post]))
        canvas.fill(slab, (70, 75, 80), FENCE, post)


def draw_pole(canvas, x: float, z: float, carries: int) -> None:
    """A post: bare (a street lamp), or with a traffic light or a sign on it."""
    rng = canvas.rng
    height = rng.uniform(5.5, 8) if carries == POLE else rng.uniform(2.8, 3.6)
    canvas.box(x - 0.09, x + 0.09, 0, height, z, _jitter(canvas, (115, 115, 115), 8), POLE)
    if carries == POLE:
        arm = 1.6 * np.sign(-x)
        canvas.box(min(x, x + arm), max(x, x + arm), height - 0.12, height, z, (120,) * 3, POLE)
    elif carries == LIGHT:
        canvas.box(x - 0.24, x + 0.24, height - 0.3, height + 0.9, z, (35, 35, 30), LIGHT)
        lit = rng.integers(3)
        for lamp, color in enumerate([(60, 200, 70), (40, 190, 230), (40, 40, 225)]):
            shown = color if lamp == lit else (50, 50, 50)
            canvas.disc(x, height - 0.08 + 0.36 * lamp, z, 0.13, 0.13, shown, LIGHT)
    else:
        face = rng.choice([[40, 40, 200], [190, 110, 40], [60, 200, 225]])
        if rng.random() < 0.5:
            canvas.disc(x, height, z, 0.42, 0.42, face, SIGN)
            canvas.disc(x, height, z, 0.28, 0.28, (235, 235, 235), SIGN)
        else:
            canvas.box(x - 0.5, x + 0.5, height - 0.35, height + 0.45, z, face, SIGN)


def draw_person(canvas, x: float, z: float, train_id: int = PERSON, lift: float = 0.0) -> None:
    """A person of 1.6 to 1.9 m: legs, a coat and a head."""
    rng = canvas.rng
    scale = rng.uniform(0.9, 1.06)
    stride = rng.uniform(0.05, 0.22)
    trousers, coat = _jitter(canvas, (60, 55, 50)), _jitter(canvas, _PAINTS[rng.integers(8)], 20)
    for leg in (-stride, stride):
        canvas.box(x + leg - 0.1, x + leg + 0.1, lift, lift + 0.85 * scale, z, trousers, train_id)
    canvas.box(x - 0.26, x + 0.26, lift + 0.75 * scale, lift + 1.45 * scale, z, coat, train_id)
    skin = _jitter(canvas, (130, 160, 205))
    canvas.disc(x, lift + 1.6 * scale, z, 0.13, 0.16, skin, train_id)


def draw_two_wheeler(canvas, x: float, z: float, train_id: int, ridden: bool) -> None:
    """A bicycle or a motorcycle from the side, with or without a rider."""
    paint = _jitter(canvas, _PAINTS[canvas.rng.integers(8)], 15)
    thick = 0.10 if train_id == BICYCLE else 0.22
    for wheel in (-0.55, 0.55):
        canvas.disc(x + wheel, 0.34, z, 0.36, 0.36, (35, 35, 35), train_id)
        canvas.disc(x + wheel, 0.34, z, 0.22, 0.22, (100, 100, 100), train_id)
    canvas.box(x - 0.55, x + 0.5, 0.45, 0.45 + 2.2 * thick, z, paint, train_id)
    canvas.box(x + 0.36, x + 0.46, 0.4, 1.05, z, paint * 0.7, train_id)
    if ridden:
        draw_person(canvas, x - 0.08, z, RIDER, lift=0.55)


def draw_vehicle(canvas, x: float, z: float, train_id: int) -> None:
    """A car, truck, bus or tram from behind (or ahead), with its visible flank."""
    rng = canvas.rng
    width, height, length = {
        CAR: (1.8, rng.uniform(1.4, 1.75), 4.3),
        TRUCK: (2.4, rng.uniform(2.8, 3.5), 8.0),
        BUS: (2.5, 3.1, 11.0),
        TRAIN: (2.6, 3.5, 22.0),
    }[train_id]
    paint = _jitter(canvas, _PAINTS[rng.integers(8)], 15)
    if train_id == BUS:
        paint = _jitter(canvas, (40, 150, 215), 15)
    if train_id == TRAIN:
        paint = _jitter(canvas, (60, 60, 190), 15)
    left, right = x - width / 2, x + width / 2
    _shadow(canvas, left - 0.2, right + 0.2, z, length)
    flank = left if x > canvas.camera_offset else right
    ends = np.array([z, z + length, z + length, z])
    if train_id == CAR:
        body, roof = height * 0.6, height
        y = np.array([0.25, 0.25, body, body])
        canvas.fill(canvas.project(flank, y, ends), paint * 0.8, CAR, z)
        inset = np.array([z + 0.4, z + length * 0.7, z + length * 0.6, z + 0.9])
        glass = canvas.project(flank, [body, body, roof, roof], inset)
        canvas.fill(glass, (70, 60, 55), CAR, z)
        canvas.box(left, right, 0.3, body, z, paint, CAR)
        cabin = canvas.project(
            [left + 0.08, right - 0.08, right - 0.3, left + 0.3], [body, body, roof, roof], z
        )
        canvas.fill(cabin, paint * 0.9, CAR, z)
        pane = canvas.project(
            [left + 0.2, right - 0.2, right - 0.36, left + 0.36],
            [body + 0.03, body + 0.03, roof - 0.1, roof - 0.1], z,
        )  # fmt: skip
        canvas.fill(pane, (80, 68, 60), CAR, z)
        for lamp in (left + 0.08, right - 0.4):
            canvas.box(lamp, lamp + 0.32, body - 0.28, body - 0.1, z, (45, 45, 190), CAR)
        canvas.box(x - 0.3, x + 0.3, 0.5, 0.65, z, (215, 225, 225), CAR)
    else:
        y = np.array([0.4, 0.4, height, height])
        canvas.fill(canvas.project(flank, y, ends), paint * 0.8, train_id, z)
        if train_id != TRUCK:
            for start in np.arange(z + 0.8, z + length - 1.2, 1.9):
                where = np.array([start, start + 1.3, start + 1.3, start])
                pane = canvas.project(flank, height * np.array([0.5, 0.5, 0.8, 0.8]), where)
                canvas.fill(pane, (70, 60, 55), train_id, z)
        canvas.box(left, right, 0.4, height, z, paint, train_id)
        low, high = (0.12, 0.2) if train_id == TRUCK else (0.5, 0.88)
        canvas.box(left + 0.2, right - 0.2, height * low, height * high, z, (75, 65, 60), train_id)
        for lamp in (left + 0.1, right - 0.4):
            canvas.box(lamp, lamp + 0.3, 0.6, 0.85, z, (45, 45, 190), train_id)
    for wheel in (left + 0.08, right - 0.3):
        canvas.box(wheel, wheel + 0.22, 0.0, 0.36, z, (28, 28, 28), train_id)
