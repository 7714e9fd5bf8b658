"""The heads of DeepLabV3 and DeepLabV3+."""

from typing import Callable, Optional

from mmseg.models.decode_heads import ASPPHead, DepthwiseSeparableASPPHead
from torch import Tensor, nn

from ..lean.autograd_ops.frozen_conv import conv_input_gradient, summed_input_gradient
from ..lean.autograd_ops.resize import resize_bilinear, resize_input_gradient
from .conv_unit import ConvUnit, separable_backward
from .decode_head import HeadOperator, PendingGradient, head_operator_for, ready
from .fast_conv import is_plain_conv
from .operator import FrozenOperator, Sequence, Tape, build_operator


class ASPPHeadOperator(HeadOperator):
    """Atrous spatial pyramid pooling, with low-level features if the head has them.

    Args:
        head: An ``ASPPHead`` or ``DepthwiseSeparableASPPHead``.
    """

    def __init__(self, head: nn.Module) -> None:
        self.head = head
        self.align_corners = head.align_corners
        self.pool = build_operator(head.image_pool[1], 'image_pool')
        self.branches = [
            Sequence([build_operator(m, 'aspp_modules')]).parts for m in head.aspp_modules
        ]
        self.bottleneck = build_operator(head.bottleneck, 'bottleneck')
        self.low_level: Optional[FrozenOperator] = None
        self.decoder: list[FrozenOperator] = []
        if isinstance(head, DepthwiseSeparableASPPHead):
            self.decoder = Sequence([build_operator(head.sep_bottleneck, 'sep_bottleneck')]).parts
            if head.c1_bottleneck is not None:
                self.low_level = build_operator(head.c1_bottleneck, 'c1_bottleneck')
        self.classifier = build_operator(head.conv_seg, 'conv_seg')
        deep = head.in_index
        self.deep = deep
        self.reads = (deep,) if self.low_level is None else (0, deep)

    def _operators(self) -> list[FrozenOperator]:
        branches = [part for branch in self.branches for part in branch]
        found = [self.pool, *branches, self.bottleneck, *self.decoder, self.classifier]
        return found if self.low_level is None else [*found, self.low_level]

    def fallbacks(self) -> list[str]:
        """See base class."""
        return [name for part in self._operators() for name in part.fallbacks()]

    def forward(self, features: list[Optional[Tensor]], tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        x = features[self.deep]
        size, channels = tuple(x.shape[2:]), self.head.channels
        together = x.new_empty(x.shape[0], channels * (len(self.branches) + 1), *size)
        pooled = self.pool.forward(self.head.image_pool[0](x), tape)
        together[:, :channels] = resize_bilinear(pooled, size, self.align_corners)
        for index, branch in enumerate(self.branches, start=1):
            piece = slice(index * channels, (index + 1) * channels)
            y = x
            for part in branch:
                y = part.forward(y, tape)
            together[:, piece] = y
            del y
        low_level_is_deep = self.low_level is not None and self.deep == 0
        if not low_level_is_deep:
            features[self.deep] = None
        del x
        y = self.bottleneck.forward(together, tape)
        del together
        low_shape = None
        if self.low_level is not None:
            low = self.low_level.forward(features[0], tape)
            features[0] = None
            low_shape = tuple(low.shape)
            joined = y.new_empty(low_shape[0], channels + low_shape[1], *low_shape[2:])
            joined[:, :channels] = resize_bilinear(y, low_shape[2:], self.align_corners)
            joined[:, channels:] = low
            y = joined
            del low, joined
        for part in self.decoder:
            y = part.forward(y, tape)
        if tape is not None:
            tape.append((size, low_shape))
        return self.classifier.forward(y, tape)

    def _pieces_of_bottleneck(
        self, grad: Tensor, tape: Tape
    ) -> tuple[Callable[[int], Tensor], Callable[[], Tensor]]:
        """Returns two functions that compute the bottleneck's input gradient in pieces.

        The first returns the gradient of the output map of branch ``index``, from 1; the second
        the gradient of the pooled features before their resizing to the map.
        """
        channels = self.head.channels
        if not isinstance(self.bottleneck, ConvUnit):
            whole = self.bottleneck.backward(grad, tape)

            def take(index: int) -> Tensor:
                return whole[:, index * channels : (index + 1) * channels].contiguous()

            return take, lambda: take(0).sum(dim=(2, 3), keepdim=True)
        conv = self.bottleneck.conv
        grad, kernel, shape = self.bottleneck.below_norm(grad, tape)
        size = (shape[0], channels, *shape[2:])
        geometry = (conv.stride, conv.padding, conv.dilation)

        def take(index: int) -> Tensor:
            piece = kernel[:, index * channels : (index + 1) * channels]
            return conv_input_gradient(grad, piece, size, *geometry, workspace=tape.workspace)

        return take, lambda: summed_input_gradient(grad, kernel[:, :channels], size, *geometry)

    def backward(self, grad: Tensor, tape: Tape) -> dict[int, PendingGradient]:
        """See base class."""
        channels, found = self.head.channels, {}
        handed = [self.classifier.backward(grad, tape)]
        del grad
        size, low_shape = tape.pop()
        grad = _row_backward(self.decoder, handed, tape)
        if self.low_level is not None:
            of_low = grad[:, channels:].clone()
            small = (grad.shape[0], channels, *size)
            grad = resize_input_gradient(grad[:, :channels].contiguous(), small, self.align_corners)
            # The tape entry is taken now, but the gradient of the low-level features is computed
            # later. Until then only the smaller map of the head's few channels is kept.
            noted = Tape(workspace=tape.workspace)
            noted.append(tape.pop())
            low_level = self.low_level
            found[0] = lambda into=None: low_level.backward(of_low, noted, into)
        # The branches' gradients are taken from the bottleneck one by one. Together they would be
        # one of the largest tensors of all.
        take, take_pooled = self._pieces_of_bottleneck(grad, tape)
        del grad
        total = None
        for index in range(len(self.branches), 0, -1):
            total = _row_backward(self.branches[index - 1], [take(index)], tape, total)
        pooled = self.pool.backward(take_pooled(), tape)
        total.add_(pooled.div_(size[0] * size[1]))
        if self.deep in found:
            low = found[0]
            return {0: lambda into=None: low(ready(total)(into))}
        found[self.deep] = ready(total)
        return found


def _row_backward(
    row: list[FrozenOperator], handed: list[Tensor], tape: Tape, into: Optional[Tensor] = None
) -> Tensor:
    """The backward of a sequence of operators; a depthwise and a pointwise one run as a pair.

    Args:
        row: The operators in the order of the forward pass.
        handed: A list with the gradient only. The function removes the gradient from the list, so
            that the caller holds no reference and the memory can be freed on the way.
        tape, into: See ``FrozenOperator.backward``.
    """
    rest, grad = list(row), handed.pop()
    while rest:
        last = rest.pop()
        if rest:
            before = rest.pop()
            grad = separable_backward(before, last, grad, tape, None if rest else into)
        else:
            grad = last.backward(grad, tape, into)
    return grad


@head_operator_for(ASPPHead, DepthwiseSeparableASPPHead)
def _aspp(head: nn.Module) -> Optional[HeadOperator]:
    known = (
        head.input_transform is None
        and isinstance(head.in_index, int)
        and type(head.image_pool[0]) is nn.AdaptiveAvgPool2d
        and is_plain_conv(head.conv_seg)
    )
    return ASPPHeadOperator(head) if known else None
