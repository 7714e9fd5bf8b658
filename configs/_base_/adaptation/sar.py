# SAR (Niu et al., ICLR 2023, arXiv 2302.12400). Published: E0 = 0.4 ln C, radius 0.05, SGD 2.5e-4
# with momentum 0.9 (ResNet-50, batch 64), recovery below 0.2 nats for 1000 classes.
# Ours: pixels in place of images; recovery scaled to the number of classes (0.2 / ln 1000); the
# decode head is left alone together with the last stage. Pixels are far more certain than images:
# a healthy stream whose reliable pixels have a mean entropy below the threshold is reset again and
# again, so look at it first (0 never resets).
# The rate here is the published one; chosen on CamVid: 1e-3 (docs/tuning.md).
adaptation = dict(
    type='sar',
    entropy_threshold=0.4,
    radius=0.05,
    recovery_threshold=0.029,
    optimizer=dict(type='SGD', lr=2.5e-4, momentum=0.9),
)
