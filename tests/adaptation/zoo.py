"""Tiny models of many of mmseg's architectures, their weights and statistics made up."""

from copy import deepcopy

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .conftest import DEEPLAB, NUM_CLASSES, SEGFORMER

_BN = dict(type='BN')
_HEAD = dict(
    channels=8, num_classes=NUM_CLASSES, align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss'),
)  # fmt: skip
_LOSS = _HEAD['loss_decode']
_RESNET = {k: v for k, v in DEEPLAB['backbone'].items() if k != 'norm_cfg'}
_FPN = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4)


def _head(kind, in_channels, in_index, **options):
    where = dict(in_channels=in_channels, in_index=in_index)
    return dict(_HEAD, type=kind, norm_cfg=_BN, **where, **options)


def _resnet(*head, **options):
    return dict(backbone=_RESNET, decode_head=_head(*head, **options))


def _cascade(backbone, in_channels, in_index, **options):
    heads = [
        _head('FCNHead', in_channels, in_index, num_convs=1, **options),
        _head('OCRHead', in_channels, in_index, ocr_channels=4, **options),
    ]
    return dict(type='CascadeEncoderDecoder', num_stages=2, backbone=backbone, decode_head=heads)


# The engine runs their heads by plain autograd.
ENGINE = {
    'pspnet': _resnet('PSPHead', 64, 3, pool_scales=(1, 2)),
    'knet': dict(
        backbone=_RESNET,
        decode_head=dict(
            type='IterativeDecodeHead', num_stages=1, kernel_generate_head=_head('FCNHead', 64, 3),
            kernel_update_head=[
                dict(
                    type='KernelUpdateHead', num_classes=NUM_CLASSES, num_heads=2, in_channels=8,
                    out_channels=8, feedforward_channels=8, num_ffn_fcs=2, num_mask_fcs=1,
                    conv_kernel_size=1, with_ffn=True, feat_transform_cfg=None,
                    kernel_updator_cfg=dict(
                        type='KernelUpdator', in_channels=8, feat_channels=8, out_channels=8
                    ),
                )
            ],
        ),
    ),
}  # fmt: skip
# Known backbones with something behind them that the engine does not know.
BEYOND_ENGINE = {
    'danet': _resnet('DAHead', 64, 3, pam_channels=4),
    'encnet': _resnet('EncHead', [16, 32, 64], [1, 2, 3], num_codes=4, add_lateral=True),
    'ocrnet': _cascade(_RESNET, 64, 3),
    'fpn': dict(
        backbone=_RESNET, neck=_FPN,
        decode_head=_head('FPNHead', [8] * 4, [0, 1, 2, 3], feature_strides=[4, 8, 16, 16]),
    ),
    'pointrend': dict(
        type='CascadeEncoderDecoder', num_stages=2, backbone=_RESNET, neck=_FPN,
        decode_head=[
            _head('FPNHead', [8] * 4, [0, 1, 2, 3], feature_strides=[4, 8, 16, 16]),
            dict(_HEAD, type='PointHead', in_channels=[8], in_index=[0], num_fcs=1),
        ],
        test_cfg=dict(
            mode='whole', subdivision_steps=2, subdivision_num_points=64, scale_factor=2
        ),
    ),
}  # fmt: skip
ZOO = {**ENGINE, **BEYOND_ENGINE}


def build(name):
    """A seeded segmentor in evaluation mode, its statistics and classifier not a fresh model's."""
    torch.manual_seed(0)
    config = dict(
        dict(type='EncoderDecoder', test_cfg=dict(mode='whole')), **deepcopy(ZOO[name]),
        data_preprocessor=SEGFORMER['data_preprocessor'],
    )  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = MODELS.build(ConfigDict(config))
    for module in segmentor.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.6, 1.4)
    for module in segmentor.decode_head.modules():
        if isinstance(getattr(module, 'conv_seg', None), nn.Conv2d):
            nn.init.normal_(module.conv_seg.weight, std=1.0)
    return segmentor.eval()
