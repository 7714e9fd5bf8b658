# RoTTA (Yuan et al., CVPR 2023, arXiv 2303.13899). Published: statistics 0.05, teacher 0.999, a
# bank of 64 images, from which it learns once in 64 images, Adam 1e-3. Ours: the bank holds 16
# frames, and each frame learns from one of them; views change colours alone.
# See ecotta_seg/methods/rotta.py for all deviations.
adaptation = dict(
    type='rotta',
    norm_momentum=0.05,
    teacher_momentum=0.999,
    capacity=16,
    frames_per_update=1,
    seed=0,
    optimizer=dict(type='Adam', lr=1e-3, betas=(0.9, 0.999)),
)
