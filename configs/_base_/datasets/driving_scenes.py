# The embedded procedural scenes. Training and validation scenes are written by
# tools/make_driving_scenes.py (see data/README.md); the test scenes are in the repository.
data_root = '{{$SCENES_ROOT:data/driving_scenes}}'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(256, 128), ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(128, 256), cat_max_ratio=0.9),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='AdverseWeather', seed=0),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='WeatherCityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='WeatherCityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('fog', 'night', 'rain', 'snow'),
        rounds=3,
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=data_root,
            data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
            severity=3,
            pipeline=test_pipeline,
        ),
    ),
)
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
            data_root=data_root,
            data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
            pipeline=test_pipeline,
        ),
    ),
)
