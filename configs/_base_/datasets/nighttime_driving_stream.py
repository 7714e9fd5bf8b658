# Nighttime Driving: 50 frames with coarse labels.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('night',),
        dataset=dict(
            type='NighttimeDrivingDataset',
            data_root='{{$NIGHTTIME_DRIVING_ROOT:data/nighttime_driving}}',
            split='test',
        ),
    ),
)
