# The default config of tools/adapt_video.py: SegFormer-B0 of CamVid with EcoTTA+.
# python tools/adapt_video.py IN OUT
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_video.py \
#     data/checkpoints/segformer_b0_camvid.pth --work-dir D
_base_ = [
    './_base_/models/segformer_b0_camvid.py',
    './_base_/datasets/camvid_weather.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
# Only these of the 19 outputs are trained: CamVid labels no other class.
trained_classes = [
    *('road', 'sidewalk', 'building', 'fence', 'pole', 'traffic sign', 'vegetation', 'sky'),
    *('person', 'car', 'bicycle'),
]
