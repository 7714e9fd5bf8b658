# Dark Zurich: 50 labelled frames of the night. Day and twilight have no labels:
# --cfg-options test_dataloader.dataset.conditions="(day,twilight,night)" and
# test_dataloader.dataset.dataset.split=train is a stream that is predicted and not scored.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('night',),
        dataset=dict(
            type='DarkZurichConditionDataset',
            data_root='{{$DARK_ZURICH_ROOT:data/dark_zurich}}',
            split='val',
        ),
    ),
)
