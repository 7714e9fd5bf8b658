# A video without labels, predicted by DeepLabV3+ R50 that adapts to it.
# VIDEO=... python tools/test_tta.py configs/video_ecotta.py CHECKPOINT [--calibrate DIR]
# CHECKPOINT: the zoo's deeplabv3plus_r50-d8 trained on Cityscapes.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    './_base_/datasets/video_frames.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
model = dict(data_preprocessor=dict(size=(512, 1024)))
adaptation = dict(meta_networks=dict(num_parts=4, split=[3, 3, 5, 5]), fast_convolutions=True)
