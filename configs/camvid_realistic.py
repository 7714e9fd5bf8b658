# DeepLabV3+ R18 through realistic weather on CamVid's test drive; camvid_severe.py is the severe
# level. docs/tuning.md has the choice of the severities.
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_realistic.py CHECKPOINT --work-dir D
_base_ = [
    './_base_/models/deeplabv3plus_r18w32.py',
    './_base_/datasets/camvid_weather_realistic.py',
    './_base_/adaptation/ecotta_plus.py',
    './_base_/runtime/adaptation.py',
]
