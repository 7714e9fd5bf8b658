# For choosing settings, besides val: a drive that the source has not seen. DeepLabV3+ R18.
# CAMVID_ROOT=... python tools/benchmark_methods.py --model r18 configs/camvid_left_out.py \
#     CHECKPOINT --methods tent:optimizer.lr=3e-5 tent:optimizer.lr=1e-4 --seeds 7 --work-dir D
_base_ = [
    './_base_/models/deeplabv3plus_r18w32.py',
    './_base_/datasets/camvid_weather_left_out.py',
    './_base_/adaptation/ecotta.py',
    './_base_/runtime/adaptation.py',
]
