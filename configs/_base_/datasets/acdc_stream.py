# Cityscapes -> ACDC: the four conditions of ACDC's train split, 400 frames each, ten rounds, at
# 960x540, scored at the label's 1920x1080 (the protocol of CoTTA, arXiv 2203.13591).
# Another split: --cfg-options test_dataloader.dataset.dataset.split=val (test has no labels).
_base_ = ['./cityscapes_source.py']

acdc_root = '{{$ACDC_ROOT:data/acdc}}'

test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(960, 540), keep_ratio=True),
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
            type='ACDCDataset',
            data_root=acdc_root,
            split='train',
            pipeline=test_pipeline,
        ),
    ),
)
