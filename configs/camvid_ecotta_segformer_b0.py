# SegFormer-B0 (trained by camvid_source_segformer_b0.py) through severe weather on CamVid.
# CAMVID_ROOT=... python tools/warm_up.py configs/camvid_ecotta_segformer_b0.py CHECKPOINT \
#     --work-dir D
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_ecotta_segformer_b0.py CHECKPOINT \
#     --work-dir D --adapters D/adapters.pth
_base_ = [
    './_base_/models/segformer_b0_camvid.py',
    './_base_/datasets/camvid_weather.py',
    './_base_/adaptation/ecotta.py',
    './_base_/runtime/adaptation.py',
]
# Tokens are normalised over their channels. The head's BatchNorm is the only one of the model and
# has to do all the correcting: its weight of the drift is high.
adaptation = dict(meta_networks=dict(norm='LN'), frozen_norm=dict(weight=10.0))
