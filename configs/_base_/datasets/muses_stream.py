# MUSES: four weathers by day, then by night.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=(
            *('clear_day', 'fog_day', 'rain_day', 'snow_day'),
            *('clear_night', 'fog_night', 'rain_night', 'snow_night'),
        ),
        dataset=dict(
            type='MUSESDataset',
            data_root='{{$MUSES_ROOT:data/muses}}',
            split='val',
        ),
    ),
)
