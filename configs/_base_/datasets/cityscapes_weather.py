# Cityscapes' validation set under made weather: fog, night, rain, snow, ten rounds.
_base_ = ['./cityscapes_source.py']

cityscapes_root = '{{$CITYSCAPES_ROOT:data/cityscapes}}'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # At the frame's own size, so that it gives the pixels that tools/make_adverse.py writes.
    dict(type='AdverseWeather', seed=0),
    dict(type='Resize', scale=(1024, 512), keep_ratio=True),
    # After the resize: scores are taken at the label's own resolution.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('fog', 'night', 'rain', 'snow'),
        rounds=10,
        dataset=dict(
            type='WeatherCityscapesDataset',
            data_root=cityscapes_root,
            data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
            severity=5,
            pipeline=test_pipeline,
        ),
    ),
)
