"""Makes trained networks sparse with a few clear frames without labels (after UniPTS)."""

from .allocation import regrown_cuts, search_cuts, uniform_cuts
from .from_config import sparsify_from_config
from .masks import magnitude_mask, two_of_four_mask
from .reconstruction import cut_weights, reconstruct

__all__ = [
    'cut_weights',
    'magnitude_mask',
    'reconstruct',
    'regrown_cuts',
    'search_cuts',
    'sparsify_from_config',
    'two_of_four_mask',
    'uniform_cuts',
]
