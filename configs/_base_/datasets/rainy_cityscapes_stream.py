# Rainy Cityscapes: frames of the validation set in three strengths of made rain.
# leftImg8bit_rain/ is beside leftImg8bit/ and gtFine/.
_base_ = ['./driving_stream.py']

test_dataloader = dict(
    dataset=dict(
        conditions=('alpha_0.01', 'alpha_0.02', 'alpha_0.03'),
        dataset=dict(
            type='RainyCityscapesDataset',
            data_root='{{$CITYSCAPES_ROOT:data/cityscapes}}',
            split='val',
        ),
    ),
)
