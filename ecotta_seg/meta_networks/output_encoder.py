"""Meta networks on the outputs of a backbone without a description (``EncoderUnits``)."""

from collections.abc import Collection, Sequence
from typing import Optional, Union

import torch
from torch import Tensor, nn

from .input_channels import input_channels
from .meta_encoder import MetaEncoder
from .meta_network import MetaNetwork

# Sides of the square trial frames in pixels. The backbone's ``img_size`` is tried as well.
_TRIAL_SIDES = (64, 128, 256, 512)


class OutputEncoder(MetaEncoder):
    """A frozen backbone of any kind with a meta network on each of its output feature maps.

    This design is ours and not the paper's. EcoTTA (arXiv 2303.01904) splits the encoder into K
    parts and feeds each meta network's output into the next part, which needs a description of the
    backbone (``EncoderUnits``). Here x_k is the backbone's k-th output, and the adapted output

        x̃_k = x_k + norm(x_k) + gain * conv_block(x_k)    (``start='identity'``)

    replaces x_k before the neck and the decode head. Frozen blocks never see adapted features. The
    backbone therefore runs without a graph. Plain autograd keeps only the activations of meta
    networks, neck and head for the backward.

    An output may be a map (N, C, H, W) or tokens (N, L, C), which are treated as a map of one
    column. An output may also be a pair that begins with a map or tokens, such as a map and a class
    token; the rest of the pair stays unchanged. A backbone may also return a single tensor.

    Args:
        backbone: See base class. The constructor runs it on an empty frame, in evaluation mode,
            to find its outputs.
        num_parts: Maximum number of meta networks. If the backbone has fewer feature outputs, each
            output gets a meta network. If it has more, only the last ``num_parts`` outputs do.
        split: Must be None, because the backbone is not split into parts.
        reads: Positions of the outputs that the decode heads use, as their ``in_index``. Positions
            count from 0; negative ones count from the end. None for all outputs.
        layer: The class of a meta network.
        **meta_network: Options of this class.

    Attributes:
        split: The positions of the outputs that have a meta network.

    Raises:
        TypeError: The backbone fails on all trial frames, none of its outputs suits a meta network,
            or an option is unknown.
        ValueError: An option has a wrong value.
    """

    kind = 'output'

    def __init__(
        self,
        backbone: nn.Module,
        num_parts: int = 4,
        split: Optional[Sequence[int]] = None,
        reads: Optional[Collection[int]] = None,
        layer: type[nn.Module] = MetaNetwork,
        **meta_network,
    ) -> None:
        name = type(backbone).__name__
        if split is not None:
            raise ValueError(
                f'expected no split for a {name}, which is not divided into parts, got '
                f'{list(split)}: leave it out'
            )
        if not isinstance(num_parts, int) or num_parts < 1:
            raise ValueError(f'expected a whole num_parts from 1, got {num_parts!r}')
        super().__init__(backbone)
        channels = output_channels(backbone)
        wanted = range(len(channels)) if reads is None else [i % len(channels) for i in reads]
        usable = [i for i, width in enumerate(channels) if width is not None]
        self.split = tuple(i for i in usable if i in wanted)[-num_parts:]
        if not self.split:
            raise TypeError(
                f'expected a backbone that gives its decode head feature maps (N, C, H, W) or '
                f'tokens (N, L, C), but a {name} gives none: choose a method without meta '
                'networks, such as tent'
            )
        for position in self.split:
            width = channels[position]
            self.meta_networks.append(layer(width, width, **meta_network))

    def forward(self, image: Tensor):
        """Encodes frames.

        Args:
            image: (N, 3, H, W) float, normalised as the segmentor's data preprocessor does.

        Returns:
            The adapted outputs, in the container (tensor, tuple or list) that the backbone returns.
        """
        with torch.no_grad():
            outputs = self.backbone(image)
        if self._bypassed:
            return outputs
        if isinstance(outputs, Tensor):
            return self._adapted(outputs, self.meta_networks[0])
        adapted = list(outputs)
        for position, meta_network in zip(self.split, self.meta_networks):
            adapted[position] = self._adapted(adapted[position], meta_network)
        return tuple(adapted) if isinstance(outputs, tuple) else adapted

    def _adapted(self, output: Union[Tensor, Sequence], meta_network: nn.Module):
        """Applies the meta network to one output of the backbone; keeps the output's type.

        If the output is a sequence, the meta network changes its first tensor.
        """
        if not isinstance(output, Tensor):
            first, *rest = output
            packed = [self._adapted(first, meta_network), *rest]
            return tuple(packed) if isinstance(output, tuple) else packed
        tokens = output.dim() == 3
        frozen = output.transpose(1, 2).unsqueeze(3) if tokens else output
        adapted = meta_network(frozen, frozen)
        self.record(frozen, adapted, meta_network)
        return adapted.squeeze(3).transpose(1, 2) if tokens else adapted


def output_channels(backbone: nn.Module) -> list[Optional[int]]:
    """Runs a backbone on an empty frame and returns the number of channels of each output.

    Args:
        backbone: Set to evaluation mode.

    Returns:
        C of each output; None for an output that is neither (N, C, H, W) nor (N, L, C).

    Raises:
        TypeError: The backbone fails on all trial frames.
    """
    # A separate statement, because ``eval`` of some mmseg backbones does not return the backbone.
    backbone.eval()
    outputs = trial_outputs(backbone)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [_channels(output) for output in outputs]


def _channels(output: object) -> Optional[int]:
    while isinstance(output, (list, tuple)) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.dim() not in (3, 4):
        return None
    return output.shape[1] if output.dim() == 4 else output.shape[2]


@torch.no_grad()
def trial_outputs(backbone: nn.Module):
    """The outputs of a backbone for the first trial size on which it runs."""
    weight = next(backbone.parameters(), torch.zeros(()))
    sizes = [(side, side) for side in _TRIAL_SIDES]
    # Some backbones accept only frames of their own size (BEiT). Most accept any size, and small
    # frames are fast.
    own = getattr(backbone, 'img_size', None)
    if isinstance(own, (list, tuple)) and len(own) == 2:
        sizes.insert(1, tuple(own))
    channels = input_channels(backbone)
    for size in sizes:
        try:
            return backbone(weight.new_zeros(1, channels, *size))
        except Exception as error:  # Each backbone raises its own type for an unsuitable size.
            reason = f'{type(error).__name__}: {(str(error).splitlines() or [""])[0]}'
    raise TypeError(
        f'expected a backbone that runs on frames of {channels} channels and {_TRIAL_SIDES[0]} to '
        f'{_TRIAL_SIDES[-1]} pixels, but a {type(backbone).__name__} raised {reason}: describe it '
        'with an EncoderUnits subclass and @register_units, or choose a method without meta '
        'networks, such as tent'
    )
