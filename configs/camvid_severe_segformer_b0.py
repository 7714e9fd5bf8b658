# SegFormer-B0 (trained by camvid_source_segformer_b0.py) through severe weather (severity 5) on
# CamVid; camvid_realistic_segformer_b0.py has the level of real weather. The recommended method;
# --method ecotta_paper runs the paper's.
# CAMVID_ROOT=... python tools/warm_up.py configs/camvid_severe_segformer_b0.py CHECKPOINT \
#     --work-dir D
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_severe_segformer_b0.py CHECKPOINT \
#     --work-dir D --adapters D/adapters.pth
_base_ = [
    './_base_/models/segformer_b0_camvid.py',
    './_base_/datasets/camvid_weather.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
