# Trains DeepLabV3+ R18 (half width) on CamVid's clear training drives, from scratch.
# CAMVID_ROOT=... python tools/train.py configs/camvid_source.py --work-dir D
_base_ = [
    './_base_/models/deeplabv3plus_r18w32.py',
    './_base_/datasets/camvid_weather.py',
    './_base_/runtime/source_training.py',
]
