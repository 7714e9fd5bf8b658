"""Dark frames against a gamma correction by NumPy."""

import numpy as np
import pytest
import torch
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from ecotta_seg.layers.exposure import Exposure
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor

MEAN, STD = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])
EVERYTHING = slice(None), slice(None)


def preprocessor(**options):
    return SegDataPreProcessor(**{**dict(mean=MEAN.tolist(), std=STD.tolist()), **options})


def normalised(pixels):
    return torch.tensor((pixels - MEAN) / STD).permute(2, 0, 1)[None].float()


def pixels_of(inputs):
    return inputs[0].permute(1, 2, 0).double().numpy() * STD + MEAN


def frame(brightness, seed=0):
    pixels = np.random.default_rng(seed).uniform(0, 2 * brightness, (24, 32, 3))
    return pixels * brightness / pixels.mean()


def test_a_dark_frame_equals_numpy():
    pixels = frame(40)
    target = 0.8 * MEAN.mean()
    expected = 255 * (pixels / 255) ** (np.log(target / 255) / np.log(40 / 255))
    inputs = normalised(pixels)
    brighter = Exposure(preprocessor(), 0.8).brighten_(inputs, *EVERYTHING)
    assert brighter is inputs
    assert np.allclose(pixels_of(brighter), expected, atol=0.01)
    assert 1.7 * 40 < pixels_of(brighter).mean() < target


@pytest.mark.parametrize('brightness', [95, 130, 0.5])
def test_bright_and_unlit_frames_stay_bit_for_bit(brightness):
    inputs = normalised(frame(brightness))
    before = inputs.clone()
    assert torch.equal(Exposure(preprocessor()).brighten_(inputs, *EVERYTHING), before)


def test_frames_without_numbers_stay_as_they_are():
    inputs = normalised(frame(40)) * float('nan')
    assert Exposure(preprocessor()).brighten_(inputs, *EVERYTHING).isnan().all()


def test_each_frame_is_corrected_for_itself_and_padding_left_alone():
    dark, bright = normalised(frame(40)), normalised(frame(120))
    both = torch.cat([dark, bright])
    both = torch.nn.functional.pad(both, (0, 5, 0, 3))
    exposure = Exposure(preprocessor())
    brighter = exposure.brighten_(both.clone(), slice(0, 24), slice(0, 32))
    alone = exposure.brighten_(dark.clone(), *EVERYTHING)
    assert torch.equal(brighter[:1, :, :24, :32], alone)
    assert torch.equal(brighter[1], both[1])
    assert not brighter[:, :, 24:].any() and not brighter[:, :, :, 32:].any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='brightness above 0 and up to 1, got 1.5'):
        Exposure(preprocessor(), 1.5)


@pytest.mark.parametrize(
    'options', [{}, dict(mean=[0, 0, 0], std=[1, 1, 1]), dict(mean=[9000] * 3, std=[4000] * 3)]
)
def test_a_mean_that_is_no_brightness_of_8_bit_frames_gives_no_target(options):
    exposure = Exposure(SegDataPreProcessor(**options))
    assert exposure.target == 0
    inputs = torch.from_numpy(frame(40)).permute(2, 0, 1)[None].float()
    before = inputs.clone()
    assert torch.equal(exposure.brighten_(inputs, *EVERYTHING), before)
    assert torch.equal(exposure.brighten_(inputs, *EVERYTHING, 9000.0), before)


def test_clear_frames_give_a_target_to_a_model_without_a_mean():
    pixels = frame(40)
    inputs = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    brighter = Exposure(SegDataPreProcessor()).brighten_(inputs, *EVERYTHING, 90.0)
    expected = 255 * (pixels / 255) ** (np.log(90 / 255) / np.log(40 / 255))
    assert np.allclose(brighter[0].permute(1, 2, 0), expected, atol=0.01)


@pytest.mark.parametrize('wrapped', [False, True])
def test_a_method_sees_brightened_frames(wrapped, monkeypatch):
    options = dict(
        type='ecotta_plus',
        meta_networks=dict(num_parts=3, start='identity', norm='LN'),
        frozen_norm=dict(mode='drift'),
        optimizer=dict(type='SGD', lr=0.01),
    )
    seen = {}
    for brightness in (None, 0.8):
        config = dict(options, brightness=brightness)
        if wrapped:
            config = dict(config, reset_every=100)
        method = build_method(config, build_segmentor('segformer')).eval()
        propose = method.propose

        def note(inputs, metas, propose=propose, brightness=brightness):
            seen[brightness] = inputs.clone()
            return propose(inputs, metas)

        monkeypatch.setattr(method, 'propose', note)
        image = torch.full((3, 64, 96), 30, dtype=torch.uint8)
        image[:, :32] = 60
        sample = SegDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96)))
        method.test_step(dict(inputs=[image.clone()], data_samples=[sample]))
    mean, std = 120.0, 60.0
    dark = torch.cat([torch.full((32,), 60.0), torch.full((32,), 30.0)])
    gamma = np.log(0.8 * mean / 255) / np.log(45 / 255)
    expected = (255 * (dark / 255) ** gamma - mean) / std
    assert torch.allclose(seen[None][0, 0, :, 0], (dark - mean) / std)
    assert torch.allclose(seen[0.8][0, 0, :, 0], expected, atol=1e-4)
