import cv2
import numpy as np
import pytest
import torch

from ecotta_seg.datasets.checks.frame_check import (
    FrameChecker,
    image_fault,
    neighbour_correlation,
)


@pytest.fixture
def picture():
    """A smooth picture with some noise, (3, 48, 64) uint8."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(20, 230, (6, 8, 3)).astype(np.uint8)
    image = cv2.resize(coarse, (64, 48)).astype(int) + generator.integers(-8, 9, (48, 64, 3))
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8)).permute(2, 0, 1).contiguous()


def noise(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_pictures_are_no_faults(picture):
    assert image_fault(picture) is None
    assert image_fault(picture.float()) is None
    night = picture // 12
    night[:, 20:24, 30:34] = 200
    assert image_fault(night) is None
    fog = (picture.float() * 0.1 + 200).to(torch.uint8)
    assert image_fault(fog) is None


@pytest.mark.parametrize(
    ('image', 'words'),
    [
        (torch.zeros(3, 48, 64, dtype=torch.uint8), 'all black'),
        (noise(3, 48, 64) % 3, 'all black'),
        (torch.full((3, 48, 64), 255, dtype=torch.uint8), 'all white'),
        (torch.full((3, 48, 64), 90, dtype=torch.uint8), 'one colour'),
        (noise(3, 48, 64), 'noise'),
        ((noise(3, 48, 64) > 127).to(torch.uint8) * 255, 'saturated'),
        (noise(1, 48, 64), 'noise'),
        (noise(4, 48, 64), 'noise'),
        (noise(3, 48, 64) / 255, 'noise'),
        (torch.full((3, 48, 64), 0.5), 'one colour'),
        (torch.zeros(1, 48, 64), 'all black'),
        (noise(48, 64), r'\(48, 64\)'),
        (torch.zeros(3, 0, 0, dtype=torch.uint8), '0x0 pixels'),
        (torch.full((3, 48, 64), float('nan')), 'not finite'),
    ],
)
def test_faults_are_told(image, words):
    import re

    assert re.search(words, image_fault(image))


@pytest.mark.parametrize('channels', [1, 2, 4, 6])
def test_pictures_of_any_number_of_channels_are_no_faults(picture, channels):
    frame = picture[[index % 3 for index in range(channels)]]
    assert image_fault(frame) is None
    assert FrameChecker().check(frame) is None
    assert image_fault(torch.zeros_like(frame)) == 'the frame is all black'


def test_pictures_of_other_ranges_are_no_faults(picture):
    values = picture.float()
    for frame in (values / 255, (values - 120) / 60, values * 257):
        assert image_fault(frame) is None


def test_white_with_a_dark_corner_is_saturated(picture):
    picture[:, 4:] = 255
    assert 'saturated' in image_fault(picture)


def test_correlation_is_numpys(picture):
    grey = picture.float().mean(0).numpy()
    right = np.corrcoef(grey[:, :-1].ravel(), grey[:, 1:].ravel())[0, 1]
    lower = np.corrcoef(grey[:-1].ravel(), grey[1:].ravel())[0, 1]
    assert neighbour_correlation(picture) == pytest.approx((right, lower), rel=1e-4)


@pytest.mark.parametrize('axis', [1, 2])
def test_failed_rows_and_columns_are_noise(picture, axis):
    shape = [1, 48, 1] if axis == 1 else [1, 1, 64]
    works = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
    assert 'neighbouring pixels' in image_fault(picture * works)


@pytest.mark.parametrize('size', [3, 4, 8])
def test_noise_of_larger_grains_is_noise(size):
    grains = noise(3, 128 // size, 256 // size).numpy()
    image = torch.from_numpy(np.kron(grains, np.ones((1, size, size), dtype=np.uint8)))
    assert min(neighbour_correlation(image)) > 0.6, 'single pixels look like a picture'
    assert 'neighbouring cells' in image_fault(image)


def test_a_frozen_frame_is_told_from_one_read_again(picture):
    checker = FrameChecker()
    assert checker.check(picture, 'a.png') is None
    assert checker.check(picture, 'a.png') is None
    assert 'frozen' in checker.check(picture, 'b.png')
    assert 'frozen' in checker.check(picture.clone(), 'c.png')
    assert checker.check(picture + 1, 'd.png') is None
    checker = FrameChecker()
    assert checker.check(picture) is None
    assert 'frozen' in checker.check(picture)


def test_another_size_is_a_fault_until_it_stays(picture):
    checker = FrameChecker()
    small = [picture[:, :40, : 60 - number].contiguous() for number in range(1)]
    assert checker.check(picture) is None
    assert '60x40' in checker.check(small[0])
    assert checker.check(picture + 1) is None
    sizes = [checker.check(small[0] + number) is None for number in range(1, 5)]
    assert sizes == [False, False, True, True]


def test_a_watch_goes_on_from_its_state(picture):
    first, second = FrameChecker(), FrameChecker()
    first.check(picture, 'a')
    second.load_state_dict(first.state_dict())
    assert 'frozen' in second.check(picture, 'b')


def test_sizes_may_differ_where_they_are_said_to(picture):
    checker, strict = FrameChecker(sizes_differ=True), FrameChecker()
    frames = [picture, picture[:, :40], picture[:, :, :50], picture]
    assert [checker.check(frame, str(i)) for i, frame in enumerate(frames)] == [None] * 4
    faults = [strict.check(frame, str(i)) for i, frame in enumerate(frames)]
    assert faults[0] is None and 'set sizes_differ=True' in faults[1]
