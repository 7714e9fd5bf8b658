# EcoTTA (arXiv 2303.01904): meta networks on a frozen model, confident entropy, regularisation.
adaptation = dict(
    type='ecotta',
    meta_networks=dict(num_parts=4, kernel_size=3, norm='BN', start='identity'),
    # How the frozen model's BatchNorms normalise: by how far each channel has drifted.
    frozen_norm=dict(mode='drift', weight=1.0),
    entropy_threshold=0.4,
    regularisation_weight=0.5,
    optimizer=dict(type='SGD', lr=1e-4, momentum=0.9),
)
