"""The norm of meta networks that goes with a backbone."""

import pytest
from mmseg.models.backbones import MixVisionTransformer, ResNetV1c
from torch import nn

from ecotta_seg.meta_networks import attach_meta_networks
from ecotta_seg.meta_networks.norms import norm_like
from tests.zoo import build

_GN = dict(type='GN', num_groups=4)


class Mixed(nn.Module):
    def __init__(self, *norms):
        super().__init__()
        self.norms = nn.ModuleList(norms)


@pytest.mark.parametrize(
    ('backbone', 'norm'),
    [
        (lambda: ResNetV1c(depth=18, base_channels=4), 'BN'),
        (lambda: MixVisionTransformer(embed_dims=8, num_layers=[1, 1, 1, 1]), 'LN'),
        (lambda: ResNetV1c(depth=18, base_channels=8, norm_cfg=_GN), 'GN'),
        (lambda: Mixed(nn.LayerNorm(2), nn.LayerNorm(2), nn.BatchNorm2d(2)), 'LN'),
        (lambda: Mixed(nn.LayerNorm(2), nn.SyncBatchNorm(2), nn.BatchNorm2d(2)), 'BN'),
        (lambda: Mixed(), 'BN'),
    ],
)
def test_it_is_the_kind_that_there_is_most_of(backbone, norm):
    assert norm_like(backbone()) == norm


@pytest.mark.parametrize(
    ('model', 'norm'), [('swin', 'ChannelLayerNorm'), ('hrnet', 'FrameBatchNorm2d')]
)
def test_auto_is_decided_where_meta_networks_are_attached(model, norm):
    encoder = attach_meta_networks(build(model), norm='auto', num_parts=2)
    assert {type(network.norm).__name__ for network in encoder.meta_networks} == {norm}
