# The former name of camvid_severe.py, for one version.
# CAMVID_ROOT=... python tools/test_tta.py configs/camvid_ecotta.py CHECKPOINT --work-dir D
_base_ = './camvid_severe.py'
