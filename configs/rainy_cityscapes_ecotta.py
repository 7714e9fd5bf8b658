# Cityscapes -> Rainy Cityscapes with DeepLabV3+ R50.
# python tools/test_tta.py configs/rainy_cityscapes_ecotta.py CHECKPOINT [--adapters FILE]
# CHECKPOINT: the zoo's deeplabv3plus_r50-d8 trained on Cityscapes.
# Root of the data: the environment variable CITYSCAPES_ROOT.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    './_base_/datasets/rainy_cityscapes_stream.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
model = dict(data_preprocessor=dict(size=(512, 1024)))
adaptation = dict(meta_networks=dict(num_parts=4, split=[3, 3, 5, 5]), fast_convolutions=True)
