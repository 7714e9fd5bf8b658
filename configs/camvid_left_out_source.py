# A DeepLabV3+ R18 that has seen one of CamVid's two training drives alone: with it the other one is
# a drive to choose settings on that the source does not know (camvid_left_out.py).
# CAMVID_ROOT=... python tools/train.py configs/camvid_left_out_source.py --work-dir D
_base_ = [
    './_base_/models/deeplabv3plus_r18w32.py',
    './_base_/datasets/camvid_weather_left_out.py',
    './_base_/runtime/source_training.py',
]
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=100, end=1600, by_epoch=False),
]
train_cfg = dict(max_iters=1600, val_interval=1600)
