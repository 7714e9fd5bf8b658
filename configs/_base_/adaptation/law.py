# LAW (Park et al., WACV 2024, arXiv 2311.05858) around Tent. Published: exponent 1 and Adam 2e-4
# (ImageNet-C). Ours: Tent's loss and parameters (the paper trains all convolutions and norms and
# adds a consistency loss), and an optimizer that lives on. `method` takes any gradient method:
# method=dict(type='ecotta', ...).
adaptation = dict(
    type='law',
    exponent=1.0,
    method=dict(type='tent', optimizer=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999))),
)
