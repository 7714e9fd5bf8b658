# CamVid's test drive in weather of the realistic level: batch statistics compare to the source
# as they do on real frames (docs/tuning.md). camvid_weather.py is the severe level.
_base_ = './camvid_weather.py'
test_dataloader = dict(dataset=dict(dataset=dict(severity=3)))
