# EcoTTA's published settings on a SegFormer, for which the paper has none: see ecotta.py for LN.
_base_ = '../adaptation/ecotta_paper.py'
adaptation = dict(meta_networks=dict(norm='LN'))
