"""A head that draws random bases in each forward (SegNeXt's) predicts the same each time."""

from copy import deepcopy

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.models.decode_heads.ham_head import NMF2D
from mmseg.registry import MODELS

from ecotta_seg.inference.fixed_draws import fixed_draws
from ecotta_seg.methods import build_method
from tests.methods.test_every_method import method_options
from tests.segmentors import NUM_CLASSES
from tests.zoo import ZOO

SIZE = (64, 96)
METAS = [dict(img_shape=SIZE, ori_shape=SIZE)]
SLIDE = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))


def _segnext(**test_cfg):
    torch.manual_seed(0)
    config = deepcopy(ZOO['segnext'])
    config['decode_head'] = dict(
        type='LightHamHead', in_channels=[8, 16, 16], in_index=[1, 2, 3], channels=16,
        ham_channels=16, num_classes=NUM_CLASSES, norm_cfg=dict(type='GN', num_groups=4),
        ham_kwargs=dict(MD_R=4),
    )  # fmt: skip
    config.update(type='EncoderDecoder', test_cfg=dict(dict(mode='whole'), **test_cfg))
    segmentor = MODELS.build(ConfigDict(config)).eval()
    torch.nn.init.normal_(segmentor.decode_head.conv_seg.weight, std=1.0)
    return segmentor


def _frame():
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('test_cfg', [{}, SLIDE])
def test_the_source_is_reproducible_and_an_identity_start_is_exact(test_cfg):
    segmentor = _segnext(**test_cfg)
    with torch.no_grad():
        plain = [segmentor.inference(_frame(), METAS) for _ in range(2)]
    # mmseg's own prediction is another one each time.
    assert not torch.equal(*plain)
    source = build_method(dict(type='source'), segmentor).eval()
    expected = source.adapt(_frame(), METAS)
    torch.randn(7)
    assert torch.equal(source.adapt(_frame(), METAS), expected)
    options = dict(method_options('ecotta_plus'), frozen_norm=None, shift_gate=None)
    method = build_method(options, _segnext(**test_cfg)).eval()
    assert torch.equal(method.predict(_frame(), METAS), expected)
    # The step predicts before its update.
    assert torch.equal(method.adapt(_frame(), METAS), expected)


def test_the_bases_of_training_time_and_other_draws_stay_random():
    torch.manual_seed(5)
    expected = torch.randn(6)
    torch.manual_seed(5)
    found = [torch.randn(3)]
    with fixed_draws(torch.device('cpu')):
        inside = torch.randn(3)
    found.append(torch.randn(3))
    assert torch.equal(torch.cat(found), expected)
    with fixed_draws(torch.device('cpu')):
        assert torch.equal(torch.randn(3), inside)
    layer = NMF2D(dict(MD_R=4))
    x = torch.rand(1, 8, 4, 4)
    assert not torch.equal(layer(x), layer(x))


def test_an_error_leaves_the_generator_where_it_was():
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match='in the network'):
        with fixed_draws(torch.device('cpu')):
            torch.randn(3)
            raise RuntimeError('in the network')
    assert torch.equal(torch.get_rng_state(), state)
