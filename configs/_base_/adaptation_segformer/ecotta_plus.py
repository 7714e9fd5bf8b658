# EcoTTA+ on a SegFormer: see ecotta.py for the norms. Twice the parts and six times the rate; dark
# frames are brightened, which LayerNorms cannot do. docs/tuning.md tells how it was tuned.
_base_ = '../adaptation/ecotta_plus.py'
adaptation = dict(
    meta_networks=dict(num_parts=8, norm='LN'),
    frozen_norm=dict(weight=10.0),
    brightness=0.8,
    # As far as ten rounds of the drive that it is tuned on went, 960 frames, and no farther.
    trust_radius=0.1,
    # On another drive a SegFormer is less sure of a clear day, too.
    shift_gate=dict(half_entropy=0.24, entropy_exponent=10.0),
    optimizer=dict(lr=6e-2),
)
