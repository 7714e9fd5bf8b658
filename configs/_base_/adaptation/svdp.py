# SVDP (Yang et al., AAAI 2024, arXiv 2303.09792), with the first settings of its public code for
# Cityscapes to ACDC: Adam 1e-4 for parameters and prompt, 0.001 of 960x540 pixels, teacher 0.999,
# scale 0.1, 10 samples of dropout at 0.5, threshold 0.69, restoring 0.01, 14 views.
# Ours: the prompt starts at 0. BatchNorms keep the source's statistics, because the public code's
# SegFormer runs in evaluation mode; batch_norm=dict(mode='frame') is as in cotta.py.
# See ecotta_seg/methods/svdp.py for all deviations.
adaptation = dict(
    type='svdp',
    prompts=518,
    prompt_scale=0.1,
    dropout_samples=10,
    dropout_rate=0.5,
    teacher_momentum=0.999,
    anchor_threshold=0.69,
    restore_probability=0.01,
    views=14,
    batch_norm=dict(mode='source'),
    seed=0,
    optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.999)),
)
