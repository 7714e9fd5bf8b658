"""Tiny segmentors of both kinds, with statistics that are not those of a fresh model."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn

from ecotta_seg.config.config import read_config
from ecotta_seg.meta_networks import input_channels
from ecotta_seg.methods import build_method

NUM_CLASSES = 7
_LOSS = dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True)
_PREPROCESSOR = dict(
    type='mmseg.SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True
)
_TEST_CFG = dict(mode='whole')
DEEPLAB = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=_PREPROCESSOR,
    backbone=dict(
        type='mmseg.ResNetV1c', depth=18, base_channels=8, stem_channels=8, num_stages=4,
        out_indices=(0, 1, 2, 3), strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2),
        norm_cfg=dict(type='BN'), contract_dilation=True,
    ),
    decode_head=dict(
        type='mmseg.DepthwiseSeparableASPPHead', in_channels=64, in_index=3, channels=8,
        dilations=(1, 2), c1_in_channels=8, c1_channels=4, num_classes=NUM_CLASSES,
        norm_cfg=dict(type='BN'), align_corners=False, loss_decode=_LOSS,
    ),
    test_cfg=_TEST_CFG,
)  # fmt: skip
SEGFORMER = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=_PREPROCESSOR,
    backbone=dict(
        type='mmseg.MixVisionTransformer', embed_dims=8, num_layers=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8], drop_path_rate=0.1,
    ),
    decode_head=dict(
        type='mmseg.SegformerHead', in_channels=[8, 16, 32, 64], in_index=[0, 1, 2, 3], channels=16,
        num_classes=NUM_CLASSES, norm_cfg=dict(type='BN'), align_corners=False,
        loss_decode=_LOSS,
    ),
    test_cfg=_TEST_CFG,
)  # fmt: skip
CONFIGS = {'deeplab': DEEPLAB, 'segformer': SEGFORMER}
# As many layers as a SegFormer-B0 has, for as many parts.
_DEEPER = dict(SEGFORMER, backbone=dict(SEGFORMER['backbone'], num_layers=[2, 2, 2, 2]))
# A meter costs time by the operator: what makes models of fewer layers of these.
SHALLOW_BACKBONE = {
    'deeplab': dict(strides=(1, 2), dilations=(1, 1), num_stages=2, out_indices=(0, 1)),
    'segformer': dict(num_layers=[1, 1, 1, 1]),
}
SHALLOW_HEAD = {'deeplab': dict(in_channels=16, in_index=1), 'segformer': {}}


def build_segmentor(kind, shallow=False, **test_cfg):
    """A seeded segmentor in evaluation mode."""
    torch.manual_seed(0)
    config = deepcopy(_DEEPER if kind == 'segformer_b0' else CONFIGS[kind])
    if shallow:
        config['backbone'].update(SHALLOW_BACKBONE[kind])
        config['decode_head'].update(SHALLOW_HEAD[kind])
    config['test_cfg'] = dict(config['test_cfg'], **test_cfg)
    segmentor = MODELS.build(ConfigDict(config))
    for module in segmentor.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.6, 1.4)
    # Logits wide enough apart that some pixels are confident and others are not.
    nn.init.normal_(segmentor.decode_head.conv_seg.weight, std=1.0)
    segmentor.eval()
    return segmentor


def _published(config):
    return read_config(Path(__file__).parents[1] / 'configs' / config)


def published_segmentor(config):
    """The stock model of a config at full width, weights and statistics made up."""
    model = deepcopy(_published(config).model)
    model.update(pretrained=None, auxiliary_head=None)
    model.data_preprocessor.pop('size', None)
    for part in (model.backbone, model.decode_head):
        if part.get('norm_cfg', {}).get('type') == 'SyncBN':
            part.norm_cfg.type = 'BN'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = MODELS.build(model)
    segmentor.train()
    with torch.no_grad():
        segmentor.encode_decode(torch.randn(2, 3, 65, 97), [dict(img_shape=(65, 97))] * 2)
    torch.nn.init.normal_(segmentor.decode_head.conv_seg.weight, std=0.3)
    return segmentor.eval()


def published_method(config, **adaptation):
    """The method of a config on its own model, see ``published_segmentor``."""
    options = deepcopy(_published(config).adaptation.to_dict())
    options.update(entropy_threshold=0.95, **adaptation)
    return build_method(options, published_segmentor(config)).eval()


@pytest.fixture(params=sorted(CONFIGS))
def segmentor(request):
    """One of the two models."""
    return build_segmentor(request.param)


@pytest.fixture
def frames():
    """Ten (1, 3, 61, 93) frames and the metainfo of one."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randn(1, 3, 61, 93, generator=generator) for _ in range(10)]
    return images, [dict(img_shape=(61, 93), ori_shape=(61, 93))]


def calibrated(method):
    """A method; one that refuses to run without clear frames is calibrated on noise."""
    like = next(method.parameters())
    if method.requires_clear_frames and not like.is_meta:
        generator = torch.Generator().manual_seed(7)
        size = (1, input_channels(method.segmentor), 64, 96)
        # Loud noise, too, so that a tiny model finds more than one class.
        images = [torch.randn(size, generator=generator).to(like) * s for s in (1, 20, 100)]
        metas = [dict(img_shape=size[2:], ori_shape=size[2:])]
        method.calibrate_all([(image, metas) for image in images])
    return method


def in_frame_mode(segmentor):
    """A copy in which torch's own BatchNorms normalise by the frame, as in training."""
    model = deepcopy(segmentor).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 0.0
    # One value a channel: the image pool of ASPP keeps the running statistics.
    if hasattr(model.decode_head, 'image_pool'):
        model.decode_head.image_pool[1].bn.eval()
    return model
