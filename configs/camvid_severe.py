# DeepLabV3+ R18 through severe weather (severity 5) on CamVid's test drive; camvid_realistic.py has
# the level of real weather. The recommended method; --method ecotta_paper runs the paper's.
# CAMVID_ROOT=... python tools/warm_up.py configs/camvid_severe.py CHECKPOINT --work-dir D
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_severe.py CHECKPOINT --work-dir D \
#     --adapters D/adapters.pth
_base_ = [
    './_base_/models/deeplabv3plus_r18w32.py',
    './_base_/datasets/camvid_weather.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
