# For choosing settings: CamVid's val sequence in weather of severity 4, two rounds of 24
# frames a condition. Results are reported on another drive, severity and weather seed
# (camvid_weather.py); docs/tuning.md names the choices that used that drive.
_base_ = './camvid_weather.py'
val = dict(data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'))
test_dataloader = dict(
    dataset=dict(rounds=2, frames_per_condition=24, dataset=dict(severity=4, **val))
)
forgetting_dataloader = dict(dataset=dict(dataset=val))
