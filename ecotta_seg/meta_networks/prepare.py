"""Prepares a source segmentor with meta networks, for adaptation and warm-up alike."""

from typing import Optional

from torch import nn

from ..layers.replace_norms import replace_batch_norms
from ..registry import check_keys, constructor_options
from .attach import attach_meta_networks
from .encoder import AdaptedEncoder
from .ladder import LadderEncoder
from .meta_encoder import MetaEncoder
from .meta_network import MetaNetwork


def prepare_meta_networks(
    segmentor: nn.Module, options: dict, frozen_norm: Optional[dict] = None
) -> MetaEncoder:
    """Attaches meta networks and sets the frozen norms, for adaptation and warm-up alike.

    Args:
        segmentor: Changed in place; all its own parameters are frozen.
        options: Options of ``AdaptedEncoder`` and ``MetaNetwork``, and ``ladder``: True for a
            ``LadderEncoder``. A backbone without a description gets an ``OutputEncoder``.
        frozen_norm: Options of ``replace_batch_norms``.

    Returns:
        The encoder, now the segmentor's backbone.

    Raises:
        TypeError: Meta networks cannot be attached to the segmentor, see ``attach_meta_networks``.
        ValueError: An option is unknown or out of range.
    """
    known = [*constructor_options(AdaptedEncoder), *constructor_options(MetaNetwork), 'ladder']
    geometry = ('backbone', 'in_channels', 'out_channels', 'stride')
    check_keys('meta_networks', options, [name for name in known if name not in geometry])
    known = ['mode', 'weight', 'shared', 'tolerance', 'momentum']
    check_keys('frozen_norm', frozen_norm or {}, known)
    replace_batch_norms(segmentor, **(frozen_norm or {}))
    options = dict(options)
    encoder = LadderEncoder if options.pop('ladder', False) else AdaptedEncoder
    return attach_meta_networks(segmentor, encoder, **options)
