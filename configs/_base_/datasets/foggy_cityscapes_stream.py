# Foggy Cityscapes: the validation set in increasingly dense made fog. leftImg8bit_foggy/ is beside
# leftImg8bit/ and gtFine/.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('beta_0.005', 'beta_0.01', 'beta_0.02'),
        dataset=dict(
            type='FoggyCityscapesDataset',
            data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}',
            split='val',
        ),
    ),
)
