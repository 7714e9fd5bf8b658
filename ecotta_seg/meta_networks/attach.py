"""Attaches meta networks to a segmentor: inside or beside its backbone, or on its outputs."""

from typing import Optional

from torch import nn

from .encoder import AdaptedEncoder
from .meta_encoder import MetaEncoder
from .norms import norm_like
from .output_encoder import OutputEncoder
from .trace import find_blocks
from .traced_encoder import TracedEncoder
from .units import is_described

# Options of a ``LadderEncoder`` that the other encoders do not have.
LADDER_OPTIONS = ('merge', 'open_parts')


def attach_meta_networks(
    segmentor: nn.Module,
    encoder: type[AdaptedEncoder] = AdaptedEncoder,
    traced: bool = False,
    **options,
) -> MetaEncoder:
    """Replaces ``segmentor.backbone`` by the same backbone with meta networks.

    If no ``EncoderUnits`` describes the backbone, it gets an ``OutputEncoder``, whose meta networks
    sit on the outputs that the decode heads read, or with ``traced`` a ``TracedEncoder``.

    Args:
        segmentor: An mmseg ``EncoderDecoder``. All its own parameters are frozen.
        encoder: ``AdaptedEncoder``, or ``LadderEncoder`` for meta networks beside the backbone.
        traced: Whether the meta networks of a backbone without a description sit between the
            blocks that a trace finds, if the trace finds any. Without an effect on a described
            backbone.
        **options: Options of the encoder. ``norm='auto'`` takes the backbone's most frequent kind
            of norm, see ``norm_like``.

    Returns:
        The encoder, which is now ``segmentor.backbone``. Only the encoder's ``meta_networks`` are
        trained; they have the device and dtype of the original backbone.

    Raises:
        TypeError: The segmentor has no backbone, meta networks cannot be attached to its backbone,
            or an option is unknown.
        ValueError: Meta networks are attached already, or an option has a wrong value.
    """
    backbone = getattr(segmentor, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise TypeError(
            'expected a segmentor with a `backbone`, as an mmseg EncoderDecoder has, but a '
            f'{type(segmentor).__name__} has none: choose a method without meta networks, such as '
            'tent'
        )
    if isinstance(backbone, MetaEncoder):
        raise ValueError(
            'the segmentor has meta networks already: attach them once, to the source model'
        )
    segmentor.requires_grad_(False)
    weight = next(backbone.parameters(), None)
    if options.get('norm') == 'auto':
        options['norm'] = norm_like(backbone)
    if is_described(backbone):
        segmentor.backbone = encoder(backbone, **options)
    else:
        # An ``OutputEncoder`` does not divide the backbone into parts, so it has no ladder options.
        options = {name: v for name, v in options.items() if name not in LADDER_OPTIONS}
        blocks = find_blocks(backbone) if traced else []
        if blocks:
            segmentor.backbone = TracedEncoder(backbone, blocks=blocks, **options)
        else:
            segmentor.backbone = OutputEncoder(backbone, reads=_reads(segmentor), **options)
    if weight is not None:
        # The meta networks are created on the CPU, so that their random weights are the same for
        # every device.
        segmentor.backbone.meta_networks.to(weight.device, weight.dtype)
    return segmentor.backbone


def _reads(segmentor: nn.Module) -> Optional[set[int]]:
    """Positions of the backbone's outputs that the decode heads read; None if unknown."""
    heads = getattr(segmentor, 'decode_head', None)
    heads = heads if isinstance(heads, nn.ModuleList) else [heads]
    indices = [getattr(head, 'in_index', None) for head in heads]
    if getattr(segmentor, 'neck', None) is not None or None in indices:
        return None
    return {i for index in indices for i in ([index] if isinstance(index, int) else index)}
