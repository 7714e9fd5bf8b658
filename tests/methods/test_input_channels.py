"""Each shipped method on models of one, three and four input channels, with and without a mean."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ecotta_seg.methods import build_method
from tests.methods.test_every_method import METHODS, method_options
from tests.segmentors import DEEPLAB, NUM_CLASSES, calibrated


def _segmentor(channels, **preprocessor):
    torch.manual_seed(0)
    config = deepcopy(DEEPLAB)
    config['data_preprocessor'] = dict(type='mmseg.SegDataPreProcessor', **preprocessor)
    config['backbone']['in_channels'] = channels
    return MODELS.build(ConfigDict(config)).eval()


@pytest.mark.parametrize(
    'channels, preprocessor',
    [
        (1, {}),
        (4, {}),
        (3, dict(mean=[0.0] * 3, std=[1.0] * 3)),
        (1, dict(mean=[120.0], std=[60.0])),
        (4, dict(mean=[9000.0], std=[4000.0])),
    ],
)
@pytest.mark.parametrize('name', sorted(METHODS))
def test_a_shipped_method_takes_the_channels_of_its_model(name, channels, preprocessor):
    segmentor = _segmentor(channels, **preprocessor)
    method = calibrated(build_method(method_options(name), segmentor).eval())
    method.set_reset_point()
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        # Dark, so that a method that brightens frames would.
        image = torch.randint(0, 60, (channels, 64, 96), generator=generator).to(torch.uint8)
        sample = SegDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96)))
        (answer,) = method.test_step(dict(inputs=[image], data_samples=[sample]))
        scores = answer.seg_logits.data
        assert scores.shape == (NUM_CLASSES, 64, 96) and scores.isfinite().all()
