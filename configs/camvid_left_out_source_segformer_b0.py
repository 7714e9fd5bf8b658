# As camvid_left_out_source.py, SegFormer-B0.
# CAMVID_ROOT=... python tools/train.py configs/camvid_left_out_source_segformer_b0.py --work-dir D
_base_ = './camvid_source_segformer_b0.py'
seen = dict(img_path='leftImg8bit/train/0016E5', seg_map_path='gtFine/train/0016E5')
left_out = dict(img_path='leftImg8bit/train/0006R0', seg_map_path='gtFine/train/0006R0')
train_dataloader = dict(dataset=dict(data_prefix=seen))
val_dataloader = dict(dataset=dict(data_prefix=left_out))
train_cfg = dict(val_interval=1300)
