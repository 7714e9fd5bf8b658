# SegFormer-B0 for CamVid's frames, as trained by camvid_source_segformer_b0.py.
_base_ = 'mmseg::_base_/models/segformer_mit-b0.py'
model = dict(
    decode_head=dict(norm_cfg=dict(type='BN', requires_grad=True)),
    data_preprocessor=dict(size=(320, 320)),
)
