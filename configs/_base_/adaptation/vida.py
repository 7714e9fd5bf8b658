# ViDA (Liu et al., ICLR 2024, arXiv 2306.04344). Published: ranks 1 and 128, threshold 0.2, teacher
# 0.999, ten samples of dropout; rates for classification alone: Adam 1e-4 and 1e-5 for the adapters
# (CIFAR-10). Ours: CoTTA's published rate for segmentation, and 0.1 of it for the adapters as on
# CIFAR-10; no warm-up on the source; adapters of all layers of the backbone. BatchNorms keep the
# source's statistics; batch_norm=dict(mode='frame') is as in cotta.py.
# See ecotta_seg/methods/vida.py for all deviations.
adaptation = dict(
    type='vida',
    low_rank=1,
    high_rank=128,
    adapter_rate=0.1,
    threshold=0.2,
    teacher_momentum=0.999,
    adapter_momentum=0.999,
    dropout_samples=10,
    dropout_rate=0.5,
    batch_norm=dict(mode='source'),
    seed=0,
    optimizer=dict(type='Adam', lr=7.5e-6, betas=(0.9, 0.999)),
)
