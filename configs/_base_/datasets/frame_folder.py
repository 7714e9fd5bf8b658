# A folder of pictures, with its subfolders, once through in the order of their paths: predicted
# and not scored. There are no clear days, so forgetting is not measured.
frames_root = '{{$FRAMES_ROOT:data/frames}}'

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(960, 540), keep_ratio=True),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        # Only a name; with `by_condition=True` each condition is a subfolder.
        conditions=('frames',),
        rounds=1,
        dataset=dict(type='FrameFolderDataset', data_root=frames_root, pipeline=test_pipeline),
    ),
)
