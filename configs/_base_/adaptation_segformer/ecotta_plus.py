# EcoTTA+ on a SegFormer: see ecotta.py for the norms; three times the rate.
_base_ = '../adaptation/ecotta_plus.py'
adaptation = dict(
    meta_networks=dict(norm='LN'), frozen_norm=dict(weight=10.0), optimizer=dict(lr=6e-2)
)
