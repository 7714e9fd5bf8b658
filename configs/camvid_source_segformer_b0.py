# Trains SegFormer-B0 on CamVid's clear training drives, from scratch (no downloaded weights).
# CAMVID_ROOT=... python tools/train.py configs/camvid_source_segformer_b0.py --work-dir D
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    './_base_/datasets/camvid_weather.py',
    './_base_/runtime/source_training.py',
]
model = dict(
    # Synchronised BatchNorm is for several GPUs.
    decode_head=dict(norm_cfg=dict(type='BN', requires_grad=True)),
    data_preprocessor=dict(size=(256, 256)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(256, 256), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=100, end=1300, by_epoch=False),
]
train_cfg = dict(max_iters=1300, val_interval=650)
