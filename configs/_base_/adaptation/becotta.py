# BECoTTA (Lee et al., ICML 2024, arXiv 2402.08712). Published for the middle size (M): 6 experts of
# which 3 count, rank 1/32 of the channels, after each block; threshold 0.4 ln C; Adam 6e-7 in the
# public code. Ours: experts at the end of 4 parts, for any backbone; a start without effect.
# The routers need the warm-up: tools/warm_up.py CONFIG CHECKPOINT --method becotta trains them on
# the source's training set in made weather, with labels. domains=('clear',) has no made weather.
# See ecotta_seg/methods/becotta.py for all deviations.
adaptation = dict(
    type='becotta',
    meta_networks=dict(
        num_parts=4,
        experts=6,
        top=3,
        reduction=32,
        domains=('clear', 'fog', 'night', 'rain', 'snow'),
    ),
    entropy_threshold=0.4,
    seed=0,
    optimizer=dict(type='Adam', lr=6e-7, betas=(0.9, 0.999)),
)
