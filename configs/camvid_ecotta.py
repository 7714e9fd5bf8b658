# DeepLabV3+ R18 through severe weather on CamVid's test drive.
# CAMVID_ROOT=... python tools/warm_up.py configs/camvid_ecotta.py CHECKPOINT --work-dir D
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_ecotta.py CHECKPOINT --work-dir D \
#     --adapters D/adapters.pth
_base_ = [
    './_base_/models/deeplabv3plus_r18w32.py',
    './_base_/datasets/camvid_weather.py',
    './_base_/adaptation/ecotta.py',
    './_base_/runtime/adaptation.py',
]
