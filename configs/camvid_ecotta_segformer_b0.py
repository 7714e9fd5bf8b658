# The former name of camvid_severe_segformer_b0.py, for one version.
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_ecotta_segformer_b0.py \
#     CHECKPOINT --work-dir D
_base_ = './camvid_severe_segformer_b0.py'
