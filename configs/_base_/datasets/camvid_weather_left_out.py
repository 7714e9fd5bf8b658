# For choosing settings, besides val: the same stream on one of the two training drives, and a
# source that is trained only on the other drive (camvid_left_out_source.py).
_base_ = './camvid_weather_val.py'
seen = dict(
    data_prefix=dict(img_path='leftImg8bit/train/0016E5', seg_map_path='gtFine/train/0016E5')
)
left_out = dict(
    data_prefix=dict(img_path='leftImg8bit/train/0006R0', seg_map_path='gtFine/train/0006R0')
)
train_dataloader = dict(dataset=seen)
val_dataloader = dict(dataset=left_out)
test_dataloader = dict(dataset=dict(dataset=left_out))
forgetting_dataloader = dict(dataset=dict(dataset=left_out))
calibration_dataloader = dict(dataset=dict(dataset=seen))
