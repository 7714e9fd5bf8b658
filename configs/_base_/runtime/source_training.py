# Training a source model with mmengine's Runner (tools/train.py): a schedule for two cores.
default_scope = 'mmseg'
custom_imports = dict(imports=['ecotta_seg'], allow_failed_imports=False)
custom_hooks = [dict(type='SafeCheckpointHook')]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Two: mmengine removes the oldest file before the newest one is complete.
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=650, save_optimizer=True, max_keep_ckpts=2
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
log_processor = dict(by_epoch=False)
log_level = 'INFO'
randomness = dict(seed=0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=100, by_epoch=False),
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=100, end=2600, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2600, val_interval=1300)
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
test_evaluator = dict(type='PerConditionIoU')
