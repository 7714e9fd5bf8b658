# Trains the embedded source model on generated clear scenes.
# python tools/make_driving_scenes.py data/driving_scenes --train 600 --val 40
# python tools/train.py configs/demo_source.py --work-dir work_dirs/demo_source
_base_ = [
    './_base_/models/deeplabv3plus_demo.py',
    './_base_/datasets/driving_scenes.py',
    './_base_/runtime/source_training.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=50, end=2600, by_epoch=False),
]
train_cfg = dict(max_iters=2600, val_interval=1300)
default_hooks = dict(checkpoint=dict(interval=1300, save_optimizer=False))
