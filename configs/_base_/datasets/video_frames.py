# The frames of a video, or of the videos of a folder, once through: predicted and not scored. There
# are no clear days, so forgetting is not measured.
video = '{{$VIDEO:data/video.mp4}}'

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(960, 540), keep_ratio=True),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    # Each worker would decode the whole video.
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('video',),  # Only a name.
        rounds=1,
        dataset=dict(type='VideoFramesDataset', data_root=video, pipeline=test_pipeline),
    ),
)
