# RDumb (Press et al., NeurIPS 2023, arXiv 2306.05401): ETA, reset every 1000 steps. Published: the
# interval, SGD 2.5e-4 with momentum 0.9, E0 = 0.4 ln C, as RDumb's code has since August 2023
# (0.355 before), redundancy threshold 0.05 for 1000 classes. Ours: pixels in place of images and
# the redundancy threshold, see eata.py; a step is one frame, not 64 images.
# `reset_every` is an option of every method that learns by gradients.
adaptation = dict(
    type='eata',
    reset_every=1000,
    entropy_threshold=0.4,
    redundancy_threshold=0.4,
    fisher_weight=0.0,
    optimizer=dict(type='SGD', lr=2.5e-4, momentum=0.9),
)
