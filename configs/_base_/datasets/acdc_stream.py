# Cityscapes -> ACDC: the four conditions of ACDC's train split, 400 frames each, ten rounds, at
# 960x540, scored at the label's 1920x1080 (the protocol of CoTTA, arXiv 2203.13591).
# Another split: --cfg-options test_dataloader.dataset.dataset.split=val (test has no labels).
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('fog', 'night', 'rain', 'snow'),
        rounds=10,
        dataset=dict(
            type='ACDCDataset',
            data_root='{{$ACDC_ROOT:data/acdc}}',
            split='train',
        ),
    ),
)
