# CoTTA (Wang et al., CVPR 2022, arXiv 2203.13591), with the settings of its segmentation code for
# Cityscapes to ACDC: Adam 6e-5 / 8, teacher 0.999, threshold 0.69, restoring 0.01, 14 views.
# Ours: BatchNorms by the frame's statistics (the code's SegFormer runs in evaluation mode; give
# batch_norm=dict(mode='source') for that). What is scored is the teacher's prediction. `views` are
# those that labels are made of, and that are scored unless --views asks for a number of every
# method; `views=1` takes them away. See ecotta_seg/methods/cotta.py for all deviations.
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
