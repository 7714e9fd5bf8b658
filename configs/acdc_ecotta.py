# Cityscapes -> ACDC with DeepLabV3+ R50.
# python tools/test_tta.py configs/acdc_ecotta.py CHECKPOINT [--adapters FILE]
# CHECKPOINT: the zoo's deeplabv3plus_r50-d8 trained on Cityscapes.
# The recommended method, ecotta_plus; --method ecotta_paper runs the paper's.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    './_base_/datasets/acdc_stream.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
model = dict(data_preprocessor=dict(size=(512, 1024)))
# The paper's split of the 16 residual blocks (Table 13).
adaptation = dict(meta_networks=dict(num_parts=4, split=[3, 3, 5, 5]), fast_convolutions=True)
