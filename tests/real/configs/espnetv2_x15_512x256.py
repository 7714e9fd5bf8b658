# ESPNetv2, width 1.5, on the real frames at 512x256.
# PYTHONPATH=. python -m tests.real.convert PUBLISHED CHECKPOINT
# PYTHONPATH=. python tools/test_tta.py tests/real/configs/espnetv2_x15_512x256.py \
#     CHECKPOINT --method tent
_base_ = [
    './_base_/espnetv2.py',
    './_base_/real_frames.py',
    './_base_/cityscapes_clear.py',
    '../../../configs/_base_/adaptation/source.py',
    '../../../configs/_base_/runtime/adaptation.py',
]
custom_imports = dict(imports=['ecotta_seg', 'tests.real.espnetv2'], allow_failed_imports=False)
