"""Tiny models of many of mmseg's architectures, their weights and statistics made up."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.segmentors import DEEPLAB, NUM_CLASSES, SEGFORMER

_BN = dict(type='BN')
_HEAD = dict(
    channels=8, num_classes=NUM_CLASSES, align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss'),
)  # fmt: skip
_LOSS = _HEAD['loss_decode']
_RESNET = {k: v for k, v in DEEPLAB['backbone'].items() if k != 'norm_cfg'}
_FPN = dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4)
_VIT = dict(
    type='VisionTransformer', img_size=(64, 64), patch_size=16, embed_dims=16, num_layers=4,
    num_heads=2, mlp_ratio=2, out_indices=(0, 1, 2, 3),
)  # fmt: skip


def _stage(branches):
    return dict(
        num_modules=1, num_branches=branches, block='BASIC', num_blocks=(1,) * branches,
        num_channels=tuple(4 * 2**i for i in range(branches)),
    )  # fmt: skip


_HRNET = dict(
    type='HRNet',
    extra=dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(8,)
        ),
        stage2=_stage(2), stage3=_stage(3), stage4=_stage(4),
    ),
)  # fmt: skip


@MODELS.register_module(name='ZooTokenBackbone')
class TokenBackbone(nn.Module):
    """Gives out tokens (N, L, C) without their grid."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, x):
        return [self.patches(x).flatten(2).transpose(1, 2)]


@MODELS.register_module(name='ZooGridded')
class Gridded(nn.Module):
    """Puts tokens of a frame of 64 x 96 back on their grid."""

    def forward(self, features):
        return [features[0].transpose(1, 2).unflatten(2, (4, 6))]


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
# No description of these backbones: meta networks sit on what they give out.
OTHER_BACKBONES = {
    'hrnet': dict(backbone=_HRNET, decode_head=_head('FCNHead', [4, 8, 16, 32], [0, 1, 2, 3],
        input_transform='resize_concat', kernel_size=1, num_convs=1)),
    'hrnet_ocrnet': _cascade(_HRNET, [4, 8, 16, 32], [0, 1, 2, 3],
        input_transform='resize_concat'),
    'swin': dict(
        backbone=dict(
            type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8),
            window_size=4,
        ),
        decode_head=_head('UPerHead', [8, 16, 32, 64], [0, 1, 2, 3], pool_scales=(1, 2)),
    ),
    'mobilenet_v2': dict(
        backbone=dict(type='MobileNetV2', widen_factor=0.1),
        decode_head=_head('PSPHead', 32, 3, pool_scales=(1, 2)),
    ),
    'mobilenet_v3': dict(
        backbone=dict(type='MobileNetV3', arch='small', out_indices=(0, 1, 12)),
        decode_head=_head('FCNHead', 576, 2),
    ),
    'unet': dict(
        backbone=dict(type='UNet', base_channels=4), decode_head=_head('FCNHead', 4, 4)
    ),
    'bisenet_v1': dict(
        backbone=dict(
            type='BiSeNetV1', backbone_cfg=dict(_RESNET, strides=(1, 2, 2, 2),
            dilations=(1, 1, 1, 1)), context_channels=(16, 32, 64), spatial_channels=(8, 8, 8, 16),
            out_channels=32,
        ),
        decode_head=_head('FCNHead', 32, 0),
    ),
    'stdc': dict(
        backbone=dict(
            type='STDCContextPathNet',
            backbone_cfg=dict(
                type='STDCNet', stdc_type='STDCNet1', in_channels=3, channels=(8, 8, 16, 32, 64),
                bottleneck_type='cat', num_convs=4, norm_cfg=_BN, act_cfg=dict(type='ReLU'),
                with_final_conv=False,
            ),
            last_in_channels=(64, 32), out_channels=8,
            ffm_cfg=dict(in_channels=24, out_channels=16, scale_factor=4),
        ),
        decode_head=_head('FCNHead', 16, 3),
    ),
    'ddrnet': dict(
        backbone=dict(type='DDRNet', channels=8, ppm_channels=8),
        decode_head=dict(
            _HEAD, type='DDRHead', in_channels=32, norm_cfg=_BN, loss_decode=[_LOSS, _LOSS]
        ),
    ),
    'vit_mla': dict(
        backbone=_VIT,
        neck=dict(type='MLANeck', in_channels=[16] * 4, out_channels=8, norm_cfg=_BN,
            act_cfg=dict(type='ReLU')),
        decode_head=_head('SETRMLAHead', [8] * 4, [0, 1, 2, 3], mla_channels=2),
    ),
    'vit_multilevel': dict(
        backbone=_VIT,
        neck=dict(type='MultiLevelNeck', in_channels=[16] * 4, out_channels=8,
            scales=[4, 2, 1, 0.5]),
        decode_head=_head('UPerHead', [8] * 4, [0, 1, 2, 3], pool_scales=(1, 2)),
    ),
    'dpt': dict(
        backbone=dict(_VIT, output_cls_token=True),
        decode_head=_head('DPTHead', (16,) * 4, (0, 1, 2, 3), embed_dims=16,
            input_transform='multiple_select', post_process_channels=[4, 8, 8, 8],
            readout_type='project'),
    ),
    'segmenter': dict(
        backbone=dict(_VIT, out_indices=3, final_norm=True),
        decode_head=dict(
            type='SegmenterMaskTransformerHead', in_channels=16, channels=16, embed_dims=16,
            num_classes=NUM_CLASSES, num_layers=1, num_heads=2, loss_decode=_LOSS,
        ),
    ),
    'beit': dict(
        backbone=dict(
            type='BEiT', img_size=(64, 96), patch_size=16, embed_dims=16, num_layers=4,
            num_heads=2, mlp_ratio=2, out_indices=(0, 1, 2, 3),
        ),
        neck=dict(type='Feature2Pyramid', embed_dim=16, norm_cfg=_BN),
        decode_head=_head('UPerHead', [16] * 4, [0, 1, 2, 3], pool_scales=(1, 2)),
    ),
    'twins': dict(
        backbone=dict(
            type='PCPVT', embed_dims=[8, 8, 16, 16], num_heads=[1, 1, 2, 2],
            mlp_ratios=[2, 2, 2, 2], depths=[1, 1, 1, 1], sr_ratios=[8, 4, 2, 1],
            out_indices=(0, 1, 2, 3), norm_after_stage=False, norm_cfg=dict(type='LN'),
        ),
        decode_head=_head('UPerHead', [8, 8, 16, 16], [0, 1, 2, 3], pool_scales=(1, 2)),
    ),
    'segnext': dict(
        backbone=dict(
            type='MSCAN', embed_dims=[8, 8, 16, 16], mlp_ratios=[2, 2, 2, 2], depths=[1, 1, 1, 1],
            drop_path_rate=0.1, norm_cfg=_BN,
        ),
        decode_head=_head('FCNHead', 16, 3),
    ),
    'tokens': dict(
        backbone=dict(type='ZooTokenBackbone'),
        neck=dict(type='ZooGridded'), decode_head=_head('FCNHead', 8, 0),
    ),
}  # fmt: skip
ZOO = {**ENGINE, **BEYOND_ENGINE, **OTHER_BACKBONES}


def model_config(name):
    """The config of one of ``ZOO``."""
    config = dict(
        dict(type='EncoderDecoder', test_cfg=dict(mode='whole')), **deepcopy(ZOO[name]),
        data_preprocessor=SEGFORMER['data_preprocessor'],
    )  # fmt: skip
    return ConfigDict(config)


def build(name):
    """A seeded segmentor in evaluation mode, its statistics and classifier not a fresh model's."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        segmentor = MODELS.build(model_config(name))
    for module in segmentor.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.6, 1.4)
    for module in segmentor.decode_head.modules():
        if isinstance(getattr(module, 'conv_seg', None), nn.Conv2d):
            nn.init.normal_(module.conv_seg.weight, std=1.0)
    return segmentor.eval()


def point_sample(features, points, align_corners=False, **options):
    """The function of mmcv, which a build without compiled operators cannot import."""
    grid = (points.unsqueeze(2) * 2 - 1).to(features.dtype)
    return F.grid_sample(features, grid, align_corners=align_corners, **options).squeeze(3)
