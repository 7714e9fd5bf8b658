# Shared by all adaptation runs: hooks, metric, and the warm-up's schedule.
default_scope = 'mmseg'
custom_imports = dict(imports=['ecotta_seg'], allow_failed_imports=False)
custom_hooks = [
    dict(
        type='SourceReferenceHook',
        references=dict(batch_statistics=dict(type='batch_norm_statistics', mode='frame')),
    ),
    dict(type='EcoTTAHook'),
    # mode='strict' stops at the first bad frame.
    dict(type='FrameCheckHook', mode='tolerant'),
    # Skips or takes back updates that would ruin the model; healthy streams are left alone.
    dict(type='GuardHook'),
    # Saves the whole state regularly and on SIGTERM: continue with `tools/test_tta.py --resume`.
    dict(type='StreamStateHook', interval=20),
    dict(type='ForgettingHook'),
    # mIoU estimated without labels, if a method or a top-level `estimate = dict()` asks for it.
    dict(type='LabelFreeHook'),
    dict(type='MemoryHook'),
    dict(type='StreamProgressHook'),
    # Curves and panels in the viewers of vis_backends, below.
    dict(type='LiveViewHook'),
    dict(type='StreamPlotHook'),
    dict(type='ResultsHook'),
    # report.html: the run on one page.
    dict(type='ReportHook'),
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # A log line every `interval` frames, for the log file; the screen has a progress bar.
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # Two: mmengine removes the oldest file before the newest one is complete.
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=100, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
# dict(type='TensorboardVisBackend') and the like: docs/live_views.md.
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(by_epoch=False)
log_level = 'INFO'
randomness = dict(seed=0)
test_evaluator = dict(type='PerConditionIoU')
test_cfg = dict(type='ResumableTestLoop')

# The warm-up (tools/warm_up.py).
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=200, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=200, val_interval=200)
val_cfg = dict(type='ValLoop')
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
