# What rates and thresholds are chosen on, for SegFormer-B0: see docs/methods.md.
# CAMVID_ROOT=... python tools/benchmark_methods.py --model b0 \
#     configs/camvid_tuning_segformer_b0.py CHECKPOINT --methods tent --seeds 7 --work-dir D
_base_ = [
    './_base_/models/segformer_b0_camvid.py',
    './_base_/datasets/camvid_weather_val.py',
    './_base_/adaptation/ecotta.py',
    './_base_/runtime/adaptation.py',
]
# Tokens are normalised over their channels. The head's BatchNorm is the only one of the model and
# has to do all the correcting: its weight of the drift is high.
adaptation = dict(meta_networks=dict(norm='LN'), frozen_norm=dict(weight=10.0))
