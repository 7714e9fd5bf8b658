# SegFormer-B0, trained on CamVid, on the real frames at 480x240: the classes that CamVid has.
# PYTHONPATH=. python tools/test_tta.py tests/real/configs/camvid_segformer_b0.py \
#     data/checkpoints/segformer_b0_camvid.pth --method tent
_base_ = [
    '../../../configs/_base_/models/segformer_b0_camvid.py',
    './_base_/real_frames.py',
    './_base_/camvid_clear.py',
    '../../../configs/_base_/adaptation/ecotta.py',
    '../../../configs/_base_/runtime/adaptation.py',
]
custom_imports = dict(
    imports=['ecotta_seg', 'tests.real.camvid_classes'], allow_failed_imports=False
)
# No padding: neither size has any in the figures that this is compared with.
model = dict(type='TrainedClassesSegmentor', data_preprocessor=dict(test_cfg=None))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(480, 240), keep_ratio=False),
    dict(type='LoadAnnotations'),
    dict(type='KeepClasses'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
