"""The canvas of a driving scene: a pinhole camera, an image and a label, drawn together."""

from collections.abc import Sequence

import cv2
import numpy as np

# The scene is drawn at this multiple of the final size and averaged, to avoid jagged edges.
OVERSAMPLING = 2
_HAZE_DISTANCE = 140.0


class SceneCanvas:
    """An image and its label under one camera.

    World coordinates are metres: X to the right from the middle of the road at the camera, Y up
    from the ground, Z ahead. The road bends by ``curve * Z**2``.

    Args:
        rng: Source of all randomness.
        size: (width, height) of the final image.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng = rng
        self.width, self.height = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
        self.horizon = self.height * rng.uniform(0.36, 0.48)
        self.focal = self.width * rng.uniform(0.62, 0.85)
        self.camera_height = rng.uniform(1.2, 1.9)
        self.camera_offset = rng.uniform(-0.6, 1.8)
        self.curve = rng.normal(0, 0.0022)
        self.haze = np.array([rng.uniform(195, 225), rng.uniform(190, 215), rng.uniform(185, 210)])
        self.image = np.zeros((self.height, self.width, 3), np.float32)
        self.label = np.full((self.height, self.width), 255, np.uint8)

    def project(self, x, y, z) -> np.ndarray:
        """Projects world points, arrays or numbers in metres, to (..., 2) pixel coordinates."""
        x, y, z = np.broadcast_arrays(*(np.asarray(v, float) for v in (x, y, z)))
        column = self.width / 2 + self.focal * (x - self.camera_offset + self.curve * z**2) / z
        row = self.horizon + self.focal * (self.camera_height - y) / z
        return np.stack([column, row], axis=-1)

    def ground(self) -> tuple[np.ndarray, np.ndarray]:
        """The (X, Z) on the ground of each pixel below the horizon; NaN above it."""
        rows = np.arange(self.height, dtype=float)[:, None]
        below = rows > self.horizon + 1
        z = np.where(
            below, self.focal * self.camera_height / np.where(below, rows - self.horizon, 1), np.nan
        )
        columns = np.arange(self.width)[None] - self.width / 2
        x = columns * z / self.focal + self.camera_offset - self.curve * z**2
        return x, np.broadcast_to(z, x.shape)

    def shade(self, color: Sequence[float], z: float) -> np.ndarray:
        """Mixes a BGR colour (0 to 255) with haze; at a larger distance z there is more haze."""
        share = 1 - np.exp(-z / _HAZE_DISTANCE)
        return np.asarray(color, float) * (1 - share) + self.haze * share

    def fill(self, points, color: Sequence[float], train_id: int, z: float) -> None:
        """Fills a polygon given in pixel coordinates; ``train_id`` -1 keeps the label."""
        # Four bits of sub-pixel position; distant points would overflow OpenCV's fixed point.
        points = np.clip(np.asarray(points).reshape(-1, 2), -4000, 8000)
        fixed = np.round(points * 16).astype(np.int32)
        cv2.fillPoly(self.image, [fixed], self.shade(color, z).tolist(), cv2.LINE_8, 4)
        if train_id >= 0:
            cv2.fillPoly(self.label, [fixed], int(train_id), cv2.LINE_8, 4)

    def box(self, x0, x1, y0, y1, z, color, train_id: int) -> None:
        """Draws an upright rectangle that faces the camera, in metres, at distance z."""
        corners = self.project([x0, x1, x1, x0], [y0, y0, y1, y1], z)
        self.fill(corners, color, train_id, z)

    def disc(self, x, y, z, radius_x, radius_y, color, train_id: int) -> None:
        """Draws an ellipse that faces the camera, in metres, at distance z."""
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        points = self.project(x + radius_x * np.cos(angles), y + radius_y * np.sin(angles), z)
        self.fill(points, color, train_id, z)

    def noise(self, cell: int) -> np.ndarray:
        """(height, width, 1) smooth noise of about unit variance; features have ``cell`` pixels."""
        shape = (self.height // cell + 2, self.width // cell + 2)
        coarse = self.rng.standard_normal(shape).astype(np.float32)
        return cv2.resize(coarse, (self.width, self.height), interpolation=cv2.INTER_CUBIC)[
            ..., None
        ]

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The final image, (H, W, 3) uint8 BGR, and label, (H, W) uint8 train ids."""
        image = self.image
        texture = 5.0 * self.noise(3) + 4.0 * self.noise(9)
        image = image * (1 + texture / 128)
        # One side of the street is brighter than the other.
        tilt = np.linspace(-1, 1, self.width)[None, :, None] * self.rng.uniform(-0.12, 0.12)
        image = image * (self.rng.uniform(0.85, 1.1) + tilt)
        step = OVERSAMPLING
        size = (self.width // step, self.height // step)
        image = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        image += self.rng.normal(0, 2.5, image.shape)
        return np.clip(np.round(image), 0, 255).astype(np.uint8), self.label[::step, ::step].copy()
