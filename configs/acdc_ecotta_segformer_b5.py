# Cityscapes -> ACDC with SegFormer-B5, the model of the published continual benchmarks.
# python tools/test_tta.py configs/acdc_ecotta_segformer_b5.py CHECKPOINT [--adapters FILE]
# CHECKPOINT: the zoo's segformer_mit-b5 trained on Cityscapes (1024x1024).
# The recommended method, ecotta_plus; --method ecotta_paper runs the paper's.
_base_ = [
    'mmseg::_base_/models/segformer_mit-b0.py',
    './_base_/datasets/acdc_stream.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
model = dict(
    # As in the zoo's segformer_mit-b5; whole frames, as the continual benchmarks predict them.
    backbone=dict(embed_dims=64, num_layers=[3, 6, 40, 3]),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    data_preprocessor=dict(size=(512, 1024)),
)
