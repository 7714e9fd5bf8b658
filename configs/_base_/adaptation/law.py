# LAW (Park et al., WACV 2024, arXiv 2311.05858) around Tent. Published: exponent 1 and Adam 2e-4
# (ImageNet-C). Ours: Tent's loss and parameters (the paper trains all convolutions and norms and
# adds a consistency loss), and an optimizer that lives on. `layer_weights` is an option of every
# method that learns by gradients.
adaptation = dict(
    type='tent',
    layer_weights=dict(exponent=1.0),
    optimizer=dict(type='Adam', lr=2e-4, betas=(0.9, 0.999)),
)
