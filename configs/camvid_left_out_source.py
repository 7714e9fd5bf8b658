# A DeepLabV3+ R18 trained on only one of CamVid's two training drives. camvid_left_out.py chooses
# settings on the other drive, which this source has not seen.
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
