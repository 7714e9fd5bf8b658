"""Ordinary autograd that keeps only the data that the backward of frozen layers needs."""

from . import activations, convolutions, losses, norms, pooling  # noqa: F401  (their rules)
from .mode import LeanAutograd, lean_autograd, plain_autograd
from .resized import resized_entropy, source_of_resize

__all__ = ['LeanAutograd', 'lean_autograd', 'plain_autograd', 'resized_entropy', 'source_of_resize']
