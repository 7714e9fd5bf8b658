"""The allowed values of the tools' options, in a module without imports."""

STREAMS = ('continual', 'ramp', 'mixed')
"""The orders of a ``ContinualStream``."""

MASK_FORMATS = ('train_ids', 'label_ids', 'colours')
"""What the pixels of a mask file hold."""

MASK_SIZES = ('label', 'frame')
"""The size of a mask file: that of the label, or that of the frame that the model saw."""

WEATHER = ('fog', 'night', 'rain', 'snow')
"""The conditions of made weather."""

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp', '.tif', '.tiff')
"""Files that are frames, in a folder of frames."""

VIDEO_SUFFIXES = ('.avi', '.mkv', '.mov', '.mp4')
"""The formats of a video that is written."""

SERVER_NAMES = ('acdc', 'cityscapes', 'muses')
"""Evaluation servers that an archive can be made for."""

KEPT_LAYERS = ('first', 'classifier', 'depthwise')
"""Kinds of layers that stay dense in a sparse network, unless a user says otherwise."""
