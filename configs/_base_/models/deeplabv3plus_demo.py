# The embedded model: DeepLabV3+ R18 of a quarter of the width.
_base_ = ['./deeplabv3plus_r18w32.py']
model = dict(
    data_preprocessor=dict(size=(128, 256)),
    backbone=dict(base_channels=16, stem_channels=16),
    decode_head=dict(in_channels=128, channels=64, c1_in_channels=16, c1_channels=16),
)
