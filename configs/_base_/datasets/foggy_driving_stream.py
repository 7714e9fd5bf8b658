# Foggy Driving: 101 labelled frames of many sizes; the split testdense has 21 in dense fog.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('fog',),
        sizes_differ=True,
        dataset=dict(
            type='FoggyDrivingDataset',
            data_root='{{$FOGGY_DRIVING_ROOT:data/foggy_driving}}',
            split='testall',
        ),
    ),
)
