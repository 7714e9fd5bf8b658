"""The all-MLP head of SegFormer."""

from typing import Optional

from mmseg.models.decode_heads import SegformerHead
from torch import Tensor

from ..lean.autograd_ops.frozen_conv import conv_input_gradient
from ..lean.autograd_ops.resize import resize_bilinear, resize_input_gradient
from .conv_unit import ConvUnit
from .decode_head import HeadOperator, PendingGradient, head_operator_for
from .operator import Tape, build_operator


class SegformerHeadOperator(HeadOperator):
    """One pointwise convolution per stage, whose resized outputs another convolution fuses.

    Args:
        head: A ``SegformerHead`` with bilinear resizing.
    """

    def __init__(self, head: SegformerHead) -> None:
        self.head = head
        self.align_corners = head.align_corners
        self.convs = [build_operator(conv, 'convs') for conv in head.convs]
        self.fusion = build_operator(head.fusion_conv, 'fusion_conv')
        self.classifier = build_operator(head.conv_seg, 'conv_seg')
        self.reads = tuple(head.in_index)

    def fallbacks(self) -> list[str]:
        """See base class."""
        parts = [*self.convs, self.fusion, self.classifier]
        return [name for part in parts for name in part.fallbacks()]

    def forward(self, features: list[Optional[Tensor]], tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        first = features[self.reads[0]]
        size, channels = tuple(first.shape[2:]), self.head.channels
        together = first.new_empty(first.shape[0], channels * len(self.convs), *size)
        del first
        shapes = []
        for index, (conv, position) in enumerate(zip(self.convs, self.reads)):
            y = conv.forward(features[position], tape)
            features[position] = None
            shapes.append(tuple(y.shape))
            piece = slice(index * channels, (index + 1) * channels)
            together[:, piece] = resize_bilinear(y, size, self.align_corners)
            del y
        if tape is not None:
            tape.append(shapes)
        y = self.fusion.forward(together, tape)
        del together
        return self.classifier.forward(y, tape)

    def backward(self, grad: Tensor, tape: Tape) -> dict[int, PendingGradient]:
        """See base class.

        The gradients through the stages' convolutions are computed later. Until then the gradients
        are kept at each stage's resolution.
        """
        channels = self.head.channels
        grad = self.classifier.backward(grad, tape)
        # The gradient of the concatenated map is computed for one stage's channels at a time. The
        # whole would be the largest tensor of all.
        grad, kernel, shape = self.fusion.below_norm(grad, tape)
        shapes = tape.pop()
        found: dict[int, PendingGradient] = {}
        for index in range(len(self.convs) - 1, -1, -1):
            piece = slice(index * channels, (index + 1) * channels)
            size = (shape[0], channels, *shape[2:])
            part = conv_input_gradient(grad, kernel[:, piece], size)
            part = resize_input_gradient(part, shapes[index], self.align_corners)
            noted = Tape(workspace=tape.workspace)
            noted.append(tape.pop())
            found[self.reads[index]] = _pending(self.convs[index], part, noted)
        return found


def _pending(conv: ConvUnit, grad: Tensor, tape: Tape) -> PendingGradient:
    return lambda into=None: conv.backward(grad, tape, into)


@head_operator_for(SegformerHead)
def _segformer(head: SegformerHead) -> Optional[HeadOperator]:
    if head.interpolate_mode != 'bilinear':
        return None
    operator = SegformerHeadOperator(head)
    pointwise = all(
        isinstance(conv, ConvUnit) and tuple(conv.conv.kernel_size) == (1, 1)
        for conv in [*operator.convs, operator.fusion]
    )
    return operator if pointwise else None
