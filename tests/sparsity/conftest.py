"""A tiny segmentor and smooth frames, because noise has no structure to reconstruct."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_seg.sparsity.calls import called_layers, windows_of
from ecotta_seg.sparsity.masks import cuttable_weights
from tests.segmentors import build_segmentor

SIZE = (32, 48)


def smooth_frames(model, number, seed=1):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(number, 3, 5, 7, generator=generator)
    images = F.interpolate(coarse, SIZE, mode='bicubic')
    metas = dict(img_shape=SIZE, ori_shape=SIZE)
    return windows_of(model, [(image[None], [metas]) for image in images])


def weights_to_cut(model, frames, **options):
    return cuttable_weights(model, called_layers(model, frames[0]), **options)


@pytest.fixture(params=['deeplab', 'segformer'])
def model(request):
    return build_segmentor(request.param, shallow=True).requires_grad_(False)


class TwoBranches(nn.Module):
    """Its second convolution has a thousandth of a part in the output."""

    def __init__(self):
        super().__init__()
        self.heard = nn.Conv2d(8, 8, 1)
        self.unheard = nn.Conv2d(8, 8, 1)

    def encode_decode(self, inputs, metas):
        return self.heard(inputs) + 1e-3 * self.unheard(inputs)


@pytest.fixture
def two_branches():
    torch.manual_seed(0)
    return TwoBranches().requires_grad_(False).eval()
