# For choosing rates and thresholds of SegFormer-B0: see docs/tuning.md.
# CAMVID_ROOT=... python tools/benchmark_methods.py --model b0 \
#     configs/camvid_tuning_segformer_b0.py CHECKPOINT --methods tent --seeds 7 --work-dir D
_base_ = [
    './_base_/models/segformer_b0_camvid.py',
    './_base_/datasets/camvid_weather_val.py',
    './_base_/adaptation/ecotta.py',
    './_base_/runtime/adaptation.py',
]
