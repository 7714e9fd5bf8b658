# Cityscapes as the source domain: warm-up, validation, and the clear days before and after a
# stream. mmengine puts the *first* environment variable of a file into all of its places, so each
# root has a file of its own.
cityscapes_root = '{{$CITYSCAPES_ROOT:data/cityscapes}}'
# Half of the frames' 2048x1024, as in continual streams of ACDC (960x540 of 1920x1080).
cityscapes_scale = (1024, 512)
crop_size = (512, 1024)

# No adverse weather in training: the source must not know the weather of the test.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
clear_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=cityscapes_scale, keep_ratio=True),
    # After the resize: scores are taken at the label's own resolution.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='WeatherCityscapesDataset',
        data_root=cityscapes_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='WeatherCityscapesDataset',
        data_root=cityscapes_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline=clear_pipeline,
    ),
)
# Forgetting is measured here: the source domain's validation set, in the stream's format.
forgetting_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('clear',),
        rounds=1,
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=cityscapes_root,
            data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
            pipeline=clear_pipeline,
        ),
    ),
)
