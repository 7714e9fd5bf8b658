# EcoTTA (Song et al., CVPR 2023, arXiv 2303.01904): meta networks on a frozen model, confident
# entropy, regularisation. Published, for classification: a norm in place of the source's output at
# the start, SGD 5e-3 (ecotta_paper.py). Ours: an identity start, so that it runs without a warm-up,
# norms that blend statistics by drift (the paper leaves open how frozen norms normalise), SGD 1e-4,
# the highest rate that lasts on a drive that the source has not seen (docs/tuning.md).
adaptation = dict(
    type='ecotta',
    meta_networks=dict(num_parts=4, kernel_size=3, norm='auto', start='identity'),
    # The frozen BatchNorms share the weight: each counts the drift of its channels by 36 / L.
    frozen_norm=dict(mode='drift', weight=36.0, shared=True),
    entropy_threshold=0.4,
    regularisation_weight=0.5,
    optimizer=dict(type='SGD', lr=1e-4, momentum=0.9),
)
