# Cityscapes' validation set in fog, night, rain and snow with DeepLabV3+ R50.
# python tools/test_tta.py configs/cityscapes_weather_ecotta.py CHECKPOINT [--adapters FILE]
# The recommended method, ecotta_plus; --method ecotta_paper runs the paper's.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    './_base_/datasets/cityscapes_weather.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
model = dict(data_preprocessor=dict(size=(512, 1024)))
adaptation = dict(meta_networks=dict(num_parts=4, split=[3, 3, 5, 5]))
