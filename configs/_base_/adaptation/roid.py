# ROID (Marsden et al., WACV 2024, arXiv 2306.00650). Published: momentum 0.99 of the average with
# the source, 0.9 of the mean prediction, temperature 1/3, SGD 2.5e-4 with momentum 0.9 (ImageNet-C,
# batch 64). Ours: pixels in place of images; views change colours alone. The prior correction is
# for streams of few classes at a time; consistency=False halves the time.
# See ecotta_seg/methods/roid.py for all deviations.
adaptation = dict(
    type='roid',
    source_momentum=0.99,
    prediction_momentum=0.9,
    temperature=1 / 3,
    consistency=True,
    prior_correction=True,
    seed=0,
    optimizer=dict(type='SGD', lr=2.5e-4, momentum=0.9),
)
