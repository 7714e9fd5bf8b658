# ESPNetv2, width 2.0, on the real frames at 512x256.
# PYTHONPATH=. python -m tests.real.convert PUBLISHED CHECKPOINT
# PYTHONPATH=. python tools/test_tta.py tests/real/configs/espnetv2_x20_512x256.py \
#     CHECKPOINT --method tent
_base_ = './espnetv2_x15_512x256.py'
channels = (32, 128, 256, 512)
model = dict(backbone=dict(channels=channels), decode_head=dict(in_channels=list(channels)))
