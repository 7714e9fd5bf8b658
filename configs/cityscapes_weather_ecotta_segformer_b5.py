# Cityscapes' validation set in fog, night, rain and snow with SegFormer-B5.
# python tools/test_tta.py configs/cityscapes_weather_ecotta_segformer_b5.py CHECKPOINT
# The recommended method, ecotta_plus; --method ecotta_paper runs the paper's.
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    './_base_/datasets/cityscapes_weather.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
model = dict(
    backbone=dict(embed_dims=64, num_layers=[3, 6, 40, 3]),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    data_preprocessor=dict(size=(512, 1024)),
)
