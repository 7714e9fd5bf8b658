# CamVid in Cityscapes' layout: the test drive (Seq05VD) in severe weather, three rounds of 40
# evenly spaced frames a condition. Source domain: the clear frames of the training drives.
data_root = '{{$CAMVID_ROOT:data/camvid}}'
img_suffix = '_leftImg8bit.jpg'
input_scale = (480, 360)
crop_size = (320, 320)

# No adverse weather in training: the source must not know the weather of the test.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=input_scale, ratio_range=(0.9, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='AdverseWeather', seed=0),
    dict(type='Resize', scale=input_scale, keep_ratio=True),
    # After the resize: scores are taken at the label's own resolution.
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
        img_suffix=img_suffix,
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
        img_suffix=img_suffix,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
# The severe weather of the stream: severity 5. `frames_per_condition=None` takes all 171 frames.
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('fog', 'night', 'rain', 'snow'),
        rounds=3,
        frames_per_condition=40,
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=data_root,
            img_suffix=img_suffix,
            data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
            severity=5,
            pipeline=test_pipeline,
        ),
    ),
)
# Forgetting is measured on the stream's own 40 frames on a clear day. They show a drive that
# the source has not trained on, so before and after differ by the adaptation alone; the val split
# comes from the training drives and would flatter the source.
forgetting_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('clear',),
        rounds=1,
        frames_per_condition=40,
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=data_root,
            img_suffix=img_suffix,
            data_prefix=dict(img_path='leftImg8bit/test', seg_map_path='gtFine/test'),
            pipeline=test_pipeline,
        ),
    ),
)
# A dozen clear frames of the training drives calibrate the method, without labels.
calibration_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('clear',),
        rounds=1,
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=data_root,
            img_suffix=img_suffix,
            data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
            pipeline=test_pipeline,
        ),
    ),
)
