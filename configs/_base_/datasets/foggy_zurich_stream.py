# Foggy Zurich: 40 labelled frames; the splits light and medium have no labels.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('fog',),
        dataset=dict(
            type='FoggyZurichDataset',
            data_root='{{$FOGGY_ZURICH_ROOT:data/foggy_zurich}}',
            split='testv2',
        ),
    ),
)
