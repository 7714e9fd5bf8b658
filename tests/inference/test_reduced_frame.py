"""Frames at a reduced size."""

import pytest
import torch

from ecotta_seg.inference.reduced_frame import reduced_frame


def test_size_and_metainfo_go_together():
    metas = [dict(img_shape=(300, 512), pad_shape=(320, 512), img_padding_size=[0, 0, 0, 20], a=1)]
    image = torch.rand(1, 3, 320, 512)
    small, small_metas = reduced_frame(image, metas, 0.5)
    # Of even sides each pixel is the mean of four.
    expected = image.reshape(1, 3, 160, 2, 256, 2).mean(dim=(3, 5))
    assert torch.allclose(small, expected, atol=1e-6)
    size, padding = (160, 256), [0, 0, 0, 10]
    of_size = dict(img_shape=size, pad_shape=size)
    assert small_metas == [dict(of_size, img_padding_size=padding, padding_size=padding, a=1)]
    assert metas[0]['img_shape'] == (300, 512)


def test_the_frame_is_not_mixed_with_padding():
    frame = torch.rand(1, 3, 301, 515)
    padded = torch.nn.functional.pad(frame, (0, 29, 0, 19), value=1000.0)
    metas = [dict(img_shape=(301, 515), pad_shape=(320, 544), img_padding_size=[0, 29, 0, 19])]
    small, small_metas = reduced_frame(padded, metas, 0.5)
    alone, _ = reduced_frame(frame, [dict(img_shape=(301, 515))], 0.5)
    assert small.shape[2:] == (160, 272) == small_metas[0]['pad_shape']
    assert small_metas[0]['img_padding_size'] == [0, 272 - 257, 0, 160 - 150]
    assert torch.equal(small[:, :, :150, :257], alone)


@pytest.mark.parametrize('scale, height', [(1, 512), (0.5, 254)])
def test_a_small_frame_is_left_as_it_is(scale, height):
    image, metas = torch.rand(1, 3, height, 512), [dict(img_shape=(height, 512))]
    same, same_metas = reduced_frame(image, metas, scale)
    assert same is image and same_metas is metas
