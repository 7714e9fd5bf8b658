"""Prepares a source segmentor with meta networks, for adaptation and warm-up alike."""

from collections.abc import Mapping, Sequence
from typing import Optional

from torch import nn

from ..layers.calibrated_batch_norm import CalibratedBatchNorm2d
from ..layers.replace_norms import CALIBRATED_WEIGHT, replace_batch_norms
from ..registry import check_keys, constructor_options
from .attach import LADDER_OPTIONS, attach_meta_networks
from .encoder import AdaptedEncoder
from .ladder import LadderEncoder
from .meta_encoder import MetaEncoder
from .meta_network import MetaNetwork


def prepare_meta_networks(
    segmentor: nn.Module,
    options: dict,
    frozen_norm: Optional[dict] = None,
    layer: type[nn.Module] = MetaNetwork,
) -> MetaEncoder:
    """Attaches meta networks and sets the frozen norms, for adaptation and warm-up alike.

    Args:
        segmentor: Changed in place; all its own parameters are frozen.
        options: Options of ``AdaptedEncoder`` and ``MetaNetwork``, and ``ladder``. With
            ``ladder=True`` the encoder is a ``LadderEncoder``, and its own options are allowed,
            too. A backbone without a description gets an ``OutputEncoder``, or with
            ``traced=True`` a ``TracedEncoder``.
        frozen_norm: Options of ``replace_batch_norms``, and ``features``. With ``features=True``,
            which needs mode 'calibrated', a ``CalibratedFeatures`` layer (an aligner) also corrects
            the output of each part, and ``weight`` is divided by the number of norms and aligners.
            An ``OutputEncoder`` gets no aligners.
        layer: The class of a meta network, called with the geometry of the part and its options.

    Returns:
        The encoder, which is now the segmentor's backbone.

    Raises:
        TypeError: Meta networks cannot be attached to the segmentor, see ``attach_meta_networks``.
        ValueError: ``options`` is no dictionary, or an option is unknown or out of range.
    """
    if not isinstance(options, Mapping):
        raise ValueError(
            f'expected meta_networks to be a dictionary, such as dict(num_parts=4), got {options!r}'
        )
    known = [*constructor_options(AdaptedEncoder), *constructor_options(layer), 'ladder', 'traced']
    known += LADDER_OPTIONS if options.get('ladder') else ()
    geometry = ('backbone', 'in_channels', 'out_channels', 'stride', 'layer')
    check_keys('meta_networks', options, [name for name in known if name not in geometry])
    frozen_norm = dict(frozen_norm or {})
    known = ['mode', 'weight', 'shared', 'tolerance', 'momentum', 'features']
    check_keys('frozen_norm', frozen_norm, known)
    features = frozen_norm.pop('features', False)
    if features and frozen_norm.get('mode') != 'calibrated':
        raise ValueError(
            "expected frozen_norm.mode='calibrated' with features=True, got "
            f'{frozen_norm.get("mode", "source")!r}: choose this mode, or leave features out'
        )
    norms = replace_batch_norms(segmentor, **frozen_norm)
    options = dict(options)
    encoder = LadderEncoder if options.pop('ladder', False) else AdaptedEncoder
    encoder = attach_meta_networks(segmentor, encoder, layer=layer, **options)
    if features:
        _align(encoder, norms, **frozen_norm)
    return encoder


def _align(
    encoder: MetaEncoder,
    norms: Sequence[CalibratedBatchNorm2d],
    mode: str,
    weight: float = CALIBRATED_WEIGHT,
    shared: bool = True,
    **options,
) -> None:
    """Adds the aligners. Divides the weight among norms and aligners: their corrections add up."""
    aligners = encoder.align_features(**options)
    like = next(encoder.backbone.parameters())
    for layer in aligners:
        layer.to(like.device, like.dtype)
    for layer in [*norms, *aligners]:
        layer.blend_weight = weight / (len(norms) + len(aligners))
