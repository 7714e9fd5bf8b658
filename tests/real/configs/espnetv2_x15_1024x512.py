# ESPNetv2, width 1.5, on the real frames at 1024x512.
# PYTHONPATH=. python -m tests.real.convert PUBLISHED CHECKPOINT
# PYTHONPATH=. python tools/test_tta.py tests/real/configs/espnetv2_x15_1024x512.py \
#     CHECKPOINT --method tent
_base_ = './espnetv2_x15_512x256.py'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1024, 512), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(dataset=dict(pipeline=pipeline)))
forgetting_dataloader = dict(dataset=dict(dataset=dict(pipeline=pipeline)))
calibration_dataloader = dict(dataset=dict(pipeline=pipeline))
