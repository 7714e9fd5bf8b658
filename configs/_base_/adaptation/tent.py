# Tent (arXiv 2006.10726). 1e-4 is the rate of the public Cityscapes-to-ACDC runs, with Adam there.
adaptation = dict(type='tent', optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999)))
