# EcoTTA (Song et al., CVPR 2023, arXiv 2303.01904) with the settings published for classification
# (none are published for segmentation), for comparison.
# Published: start, K = 4, H0 = 0.4 ln C, lambda 0.5, SGD 5e-3 with momentum 0.9.
# Not as in the public ports: they keep the frozen norms in training mode (statistics of the batch)
# and take two steps a batch; here the frozen norms keep the source's statistics, which the paper
# leaves open, and there is one step a frame. docs/methods.md names all deviations.
# The type is 'ecotta', too; the results use this name.
method = 'ecotta_paper'
adaptation = dict(
    type='ecotta',
    meta_networks=dict(num_parts=4, kernel_size=3, norm='auto', start='paper'),
    frozen_norm=dict(mode='source'),
    entropy_threshold=0.4,
    regularisation_weight=0.5,
    optimizer=dict(type='SGD', lr=5e-3, momentum=0.9),
)
