# Hybrid-TTA (Park et al., ICCV 2025, arXiv 2409.08566), with the settings of its public code for
# Cityscapes to ACDC: 0.6 of 32-pixel patches, window 10, margin 0.1, averages 0.999, Adam 6e-4 / 8.
# Ours: the norms in place of adapters, a mask on the frame and a reconstruction for any backbone.
# BatchNorms keep the source's statistics, because the public code's SegFormer runs in evaluation
# mode; batch_norm=dict(mode='frame') is as in cotta.py.
# See ecotta_seg/methods/hybrid_tta.py for all deviations.
adaptation = dict(
    type='hybrid_tta',
    mask_ratio=0.6,
    patch=32,
    reconstruction_weight=1.0,
    window=10,
    margin=0.1,
    loss_momentum=0.999,
    teacher_momentum=0.999,
    batch_norm=dict(mode='source'),
    seed=0,
    optimizer=dict(type='Adam', lr=7.5e-5, betas=(0.9, 0.999)),
)
