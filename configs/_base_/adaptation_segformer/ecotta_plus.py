# EcoTTA+ on a SegFormer: see ecotta.py for the norms. Twice the parts and six times the rate; dark
# frames are brightened, which LayerNorms cannot do.
_base_ = '../adaptation/ecotta_plus.py'
adaptation = dict(
    meta_networks=dict(num_parts=8, norm='LN'),
    frozen_norm=dict(weight=10.0),
    brightness=0.8,
    optimizer=dict(lr=6e-2),
)
