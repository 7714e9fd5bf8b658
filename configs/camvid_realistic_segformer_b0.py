# SegFormer-B0 (trained by camvid_source_segformer_b0.py) through realistic weather on CamVid's test
# drive; camvid_severe_segformer_b0.py is the severe level. docs/tuning.md has the choice.
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_realistic_segformer_b0.py CHECKPOINT \
#     --work-dir D
_base_ = [
    './_base_/models/segformer_b0_camvid.py',
    './_base_/datasets/camvid_weather_realistic.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
