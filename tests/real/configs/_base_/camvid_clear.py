# The clear day of networks that CamVid was learned from: every sixth frame of its test drive.
camvid_root = '{{$CAMVID_ROOT:../shared/data/camvid}}'

clear_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(480, 360), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='KeepClasses'),
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
            data_root=camvid_root,
            img_suffix='_leftImg8bit.jpg',
            data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
            indices=list(range(0, 171, 6)),
            pipeline=clear_pipeline,
        ),
    ),
)
# Frames of the training drives show what is usual to the source.
calibration_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='WeatherCityscapesDataset',
        data_root=camvid_root,
        img_suffix='_leftImg8bit.jpg',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=clear_pipeline,
    ),
)
