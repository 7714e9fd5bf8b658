# ESPNetv2 for Cityscapes' 19 classes, as published at the width 1.5; see tests/real/espnetv2.py.
channels = (32, 96, 192, 384)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(type='ESPNetv2', channels=channels),
    decode_head=dict(
        type='ESPNetv2Head',
        in_channels=list(channels),
        in_index=[0, 1, 2, 3],
        num_classes=19,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
