"""The allowed values of the tools' options, in a module without imports."""

STREAMS = ('continual', 'ramp', 'mixed')
"""The orders of a ``ContinualStream``."""

MASK_FORMATS = ('train_ids', 'label_ids', 'colours')
"""What the pixels of a mask file hold."""

MASK_SIZES = ('label', 'frame')
"""The size of a mask file: that of the label, or that of the frame that the model saw."""

SERVER_NAMES = ('acdc', 'cityscapes', 'muses')
"""Evaluation servers that an archive can be made for."""
