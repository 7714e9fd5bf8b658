# EcoTTA+ on a SegFormer: LayerNorm on tokens, and a higher rate (docs/tuning.md).
_base_ = '../adaptation/ecotta_plus.py'
adaptation = dict(meta_networks=dict(norm='LN'), optimizer=dict(lr=6e-2))
