# The real frames: fog, night, rain and snow of ACDC in turn, all frames of a condition.
real_root = '{{$ECOTTA_REAL_ROOT:../shared/real}}'

test_pipeline = [
    dict(type='LoadImageFromFile'),
    # The files were squeezed from 16:9 to 2:1 already.
    dict(type='Resize', scale=(512, 256), keep_ratio=False),
    # After the resize: scores are taken at the label's own resolution.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ContinualStream',
        conditions=('fog', 'night', 'rain', 'snow'),
        rounds=1,
        dataset=dict(
            type='ACDCDataset',
            data_root=real_root + '/acdc_half',
            split='val',
            pipeline=test_pipeline,
        ),
    ),
)
