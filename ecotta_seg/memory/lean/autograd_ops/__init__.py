"""Operators that pass gradients through frozen layers and keep no tensors for training only.

Each file has the plain functions that the memory engine runs (the forward pass, and the gradient
with respect to the input), and one differentiable function that combines them.
"""

from .attention import chunked_attention
from .bit_mask import one_bit_relu
from .frozen_conv import frozen_conv2d
from .frozen_norm import frozen_affine_norm, frozen_layer_norm
from .gelu import frozen_gelu
from .pixel_entropy import resized_weighted_entropy
from .resize import frozen_resize

__all__ = [
    'chunked_attention',
    'frozen_affine_norm',
    'frozen_conv2d',
    'frozen_gelu',
    'frozen_layer_norm',
    'frozen_resize',
    'one_bit_relu',
    'resized_weighted_entropy',
]
