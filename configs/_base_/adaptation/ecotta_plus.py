# EcoTTA+ (ours): identity start, statistics and a gate that are calibrated on clear frames,
# class-balanced entropy, a pull back. docs/methods.md explains each part.
adaptation = dict(
    type='ecotta_plus',
    meta_networks=dict(num_parts=4, kernel_size=3, norm='auto', start='identity'),
    # Only drift beyond three times that of clear frames counts; the norms share the weight.
    frozen_norm=dict(mode='calibrated', weight=40.0, tolerance=3.0, momentum=0.75, features=True),
    entropy_threshold=0.4,
    # Of the features' own size.
    regularisation_weight=2.0,
    relative_regularisation=True,
    regularisation_smoothing=0.03,
    restore_rate=0.01,
    trust_radius=0.3,
    class_balance=0.5,
    # In multiples of what clear frames show: half of the strength at 2 times.
    shift_gate=dict(half=2.0, exponent=6.0),
    # Without clear frames to calibrate on: frames below 0.8 times the preprocessor's mean are dark.
    brightness=0.8,
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9),
    # On every fifth frame the method estimates, without labels, whether the source would do better.
    estimate=dict(every=5, fallback=True),
)
