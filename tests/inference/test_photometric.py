"""The view with other colours, against NumPy."""

import numpy as np
import torch
from torch import nn

from ecotta_seg.inference.photometric import (
    BRIGHTNESS,
    CONTRAST,
    GAMMA,
    NOISE,
    SATURATION,
    photometric_view,
)

MEAN, STD = np.array([120.0, 100.0, 80.0]), np.array([60.0, 50.0, 40.0])


class _Preprocessor(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer('std', torch.tensor(STD).view(3, 1, 1))


def _reference(pixels, seed):
    """(H, W, 3) pixels from 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(4, generator=generator, dtype=torch.float64).numpy()
    ranges = (BRIGHTNESS, CONTRAST, SATURATION, GAMMA)
    bright, contrast, colour, gamma = (a + (b - a) * u for (a, b), u in zip(ranges, drawn))
    height, width = pixels.shape[:2]
    noise = torch.randn(1, 3, height, width, generator=generator)[0].permute(1, 2, 0).numpy()
    x = np.clip(np.clip(pixels / 255, 0, 1) * bright, 0, 1)
    x = np.clip((x - x.mean()) * contrast + x.mean(), 0, 1)
    grey = x.mean(2, keepdims=True)
    x = np.clip((x - grey) * colour + grey, 0, 1)
    return np.clip(x**gamma + NOISE * noise, 0, 1) * 255


def test_the_view_is_the_reference_and_keeps_the_padding():
    pixels = np.random.default_rng(0).uniform(0, 255, (20, 30, 3))
    frame = torch.from_numpy((pixels - MEAN) / STD).permute(2, 0, 1)
    inputs = torch.zeros(1, 3, 24, 36, dtype=torch.float64)
    inputs[0, :, 1:21, 2:32] = frame
    metas = [dict(img_padding_size=[2, 4, 1, 3])]
    found = photometric_view(inputs, metas, _Preprocessor(), 7)
    expected = (_reference(pixels, 7) - MEAN) / STD
    assert np.allclose(found[0, :, 1:21, 2:32].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert torch.equal(inputs[0, :, 1:21, 2:32], frame), 'the inputs stay as they are'
    found[0, :, 1:21, 2:32] = 0
    assert not found.any()
    assert not torch.equal(photometric_view(inputs, metas, _Preprocessor(), 8), found)


def test_without_a_mean_the_inputs_are_pixels():
    pixels = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double() * 255
    found = photometric_view(pixels, [{}], nn.Module(), 1)
    expected = _reference(pixels[0].permute(1, 2, 0).numpy(), 1)
    assert np.allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1e-4)


def test_sixteen_bits_count_from_the_lowest_to_the_highest_pixel():
    pixels = np.random.default_rng(1).uniform(1000, 9000, (8, 9, 4))
    low, high = pixels.min(), pixels.max()
    generator = torch.Generator().manual_seed(5)
    drawn = torch.rand(4, generator=generator, dtype=torch.float64).numpy()
    bright, contrast, colour, gamma = (
        a + (b - a) * u for (a, b), u in zip((BRIGHTNESS, CONTRAST, SATURATION, GAMMA), drawn)
    )
    noise = torch.randn(1, 4, 8, 9, generator=generator)[0].permute(1, 2, 0).numpy()
    x = np.clip((pixels - low) / (high - low) * bright, 0, 1)
    x = np.clip((x - x.mean()) * contrast + x.mean(), 0, 1)
    grey = x.mean(2, keepdims=True)
    x = np.clip(np.clip((x - grey) * colour + grey, 0, 1) ** gamma + NOISE * noise, 0, 1)
    frame = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    found = photometric_view(frame, [{}], nn.Module(), 5)[0].permute(1, 2, 0).numpy()
    assert np.allclose(found, x * (high - low) + low, atol=0.01)
