# The clear day of networks that Cityscapes was learned from: the val frames beside the real ones.
clear_root = '{{$ECOTTA_REAL_ROOT:../shared/real}}'

clear_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 256), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
forgetting_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('clear',),
        rounds=1,
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=clear_root + '/cityscapes_20',
            data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
            pipeline=clear_pipeline,
        ),
    ),
)
# The train frames beside them show what is usual to the source.
calibration_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='WeatherCityscapesDataset',
        data_root=clear_root + '/cityscapes_20',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=clear_pipeline,
    ),
)
