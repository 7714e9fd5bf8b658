# For choosing settings, besides val: a drive that the source has not seen. SegFormer-B0.
# CAMVID_ROOT=... python tools/benchmark_methods.py --model b0 \
#     configs/camvid_left_out_segformer_b0.py CHECKPOINT --methods tent --seeds 7 --work-dir D
_base_ = [
    './_base_/models/segformer_b0_camvid.py',
    './_base_/datasets/camvid_weather_left_out.py',
    './_base_/adaptation/ecotta.py',
    './_base_/runtime/adaptation.py',
]
