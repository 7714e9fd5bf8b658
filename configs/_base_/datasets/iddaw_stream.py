# IDD-AW: Indian roads; the root is the folder `IDDAW`. Classes that Cityscapes lacks are ignored.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('fog', 'lowlight', 'rain', 'snow'),
        dataset=dict(
            type='IDDAWDataset',
            data_root='{{$IDDAW_ROOT:data/iddaw}}',
            split='val',
        ),
    ),
)
