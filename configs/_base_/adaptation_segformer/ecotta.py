# EcoTTA on a SegFormer. Tokens are normalised over their channels. The head's BatchNorms are the
# only ones of the model and have to do all the correcting: their weight of the drift is high.
_base_ = '../adaptation/ecotta.py'
adaptation = dict(meta_networks=dict(norm='LN'), frozen_norm=dict(weight=10.0))
