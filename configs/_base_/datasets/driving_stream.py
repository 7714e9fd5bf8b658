# A stream over a data set of adverse driving, once through; the data set is in the file that
# inherits from this one. Source domain: Cityscapes.
_base_ = ['./cityscapes_source.py']

test_pipeline = [
    dict(type='LoadImageFromFile'),
    # Half of 1920x1080, as continual streams of ACDC take it. Others keep their shape.
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
    dataset=dict(type='ContinualStream', rounds=1, dataset=dict(pipeline=test_pipeline)),
)
