# EcoTTA+ (ours): identity start, drift-blended statistics, a gate by shift, class-balanced
# entropy, a pull back.
adaptation = dict(
    type='ecotta_plus',
    meta_networks=dict(num_parts=4, kernel_size=3, norm='BN', start='identity'),
    frozen_norm=dict(mode='drift', weight=1.0),
    entropy_threshold=0.4,
    # Of the features' own size: what lets the rate be 100 times ecotta.py's on an unfamiliar drive.
    regularisation_weight=2.0,
    relative_regularisation=True,
    restore_rate=0.01,
    class_balance=0.5,
    # The meta networks act as far as the source's norms have drifted and it is unsure: half of the
    # way at each `half`.
    shift_gate=dict(half_drift=0.06, drift_exponent=8.0, half_entropy=0.2, entropy_exponent=6.0),
    optimizer=dict(type='SGD', lr=1e-2, momentum=0.9),
)
