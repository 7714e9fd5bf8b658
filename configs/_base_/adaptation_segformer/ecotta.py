# EcoTTA on a SegFormer. Tokens are normalised over their channels. The head's BatchNorm is the only
# one of the model and has to do all the correcting: its weight of the drift is high.
_base_ = '../adaptation/ecotta.py'
adaptation = dict(meta_networks=dict(norm='LN'), frozen_norm=dict(weight=10.0))
