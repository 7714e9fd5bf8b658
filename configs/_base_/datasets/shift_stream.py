# SHIFT, discrete shifts, front camera: the root is the folder `discrete`. Worsening weather by day,
# then clear nights. Vehicles and riders are not scored: SHIFT has other classes there.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=(
            *('clear_daytime', 'cloudy_daytime', 'overcast_daytime', 'rainy_daytime'),
            *('foggy_daytime', 'clear_night'),
        ),
        dataset=dict(
            type='SHIFTDataset',
            data_root='{{$SHIFT_ROOT:data/shift}}',
            split='val',
        ),
    ),
)
