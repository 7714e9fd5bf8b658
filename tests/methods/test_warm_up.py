"""The warm-up's losses with heads of several kinds; the tool has tests of its own."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from ecotta_seg.methods.warm_up import MetaNetworkWarmUp
from tests.zoo import build, model_config


def _losses(name, folder):
    torch.save(dict(state_dict=build(name).state_dict()), folder / 'source.pth')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MetaNetworkWarmUp(
            model_config(name), str(folder / 'source.pth'), dict(num_parts=4, start='identity')
        ).train()
    label = PixelData(data=torch.randint(0, 7, (1, 64, 96)))
    samples = [SegDataSample(gt_sem_seg=label, metainfo=dict(img_shape=(64, 96)))] * 2
    return model, model(torch.randn(2, 3, 64, 96), samples, mode='loss')


@pytest.mark.parametrize(('name', 'terms'), [
    ('ocrnet', ['decode_0.loss_ce', 'decode_1.loss_ce']),
    ('encnet', ['decode.loss_ce', 'decode.loss_se']),
    ('hrnet', ['decode.loss_ce']),
])  # fmt: skip
def test_meta_networks_learn_by_the_loss_of_the_heads(name, terms, tmp_path):
    model, losses = _losses(name, tmp_path)
    assert [key for key in losses if 'loss' in key] == terms
    sum(losses[key].sum() for key in terms).backward()
    learned = {key for key, p in model.named_parameters() if p.grad is not None}
    assert learned and all('.meta_networks.' in key for key in learned)


def test_a_head_that_trains_on_more_than_it_predicts_is_refused(tmp_path):
    with pytest.raises(TypeError, match='but the loss of DDRHead uses more: an identity'):
        _losses('ddrnet', tmp_path)
