# CoTTA (Wang et al., CVPR 2022, arXiv 2203.13591), with the settings of its segmentation code for
# Cityscapes to ACDC: Adam 6e-5 / 8, teacher 0.999, threshold 0.69, restoring 0.01, 14 views.
# Ours: BatchNorms by the frame's statistics (the code's SegFormer runs in evaluation mode; give
# batch_norm=dict(mode='source') for that). The teacher's prediction is scored. The labels are
# averaged over `views`, and so is the scored prediction, unless --views sets a number for every
# method; `views=1` switches the averaging off. See ecotta_seg/methods/cotta.py for all deviations.
adaptation = dict(
    type='cotta',
    teacher_momentum=0.999,
    anchor_threshold=0.69,
    restore_probability=0.01,
    views=14,
    batch_norm=dict(mode='frame'),
    seed=0,
    optimizer=dict(type='Adam', lr=7.5e-6, betas=(0.9, 0.999)),
)
