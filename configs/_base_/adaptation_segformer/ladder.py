# The ladder on a SegFormer: see ecotta.py for the norms.
_base_ = '../adaptation/ladder.py'
adaptation = dict(meta_networks=dict(norm='LN'), frozen_norm=dict(weight=10.0))
