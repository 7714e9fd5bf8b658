# What settings are chosen on, besides val: a training drive that the source has not seen (see
# camvid_left_out_source.py), in weather of severity 4, two rounds of 24 frames a condition.
_base_ = './camvid_weather.py'
left_out = dict(
    data_prefix=dict(img_path='leftImg8bit/train/0006R0', seg_map_path='gtFine/train/0006R0')
)
test_dataloader = dict(
    dataset=dict(rounds=2, frames_per_condition=24, dataset=dict(severity=4, **left_out))
)
clear_dataloader = dict(dataset=dict(dataset=left_out))
