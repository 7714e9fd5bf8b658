# Ladder (ours): EcoTTA's meta networks (arXiv 2303.01904) as a side network on detached features,
# after LST (2206.06522), UniPT (2308.14316) and SHERL (2407.07523). No settings are
# published for it; loss and rates as in ecotta.py, blocks an eighth as wide (LST's ratio). The
# warm-up reads `ladder=True`.
adaptation = dict(
    type='ladder',
    meta_networks=dict(
        ladder=True, num_parts=4, kernel_size=3, reduction=8, norm='auto', start='identity'
    ),
    frozen_norm=dict(mode='drift', weight=36.0, shared=True),
    entropy_threshold=0.4,
    regularisation_weight=0.5,
    optimizer=dict(type='SGD', lr=1e-4, momentum=0.9),
)
