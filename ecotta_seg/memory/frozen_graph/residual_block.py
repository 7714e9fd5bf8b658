"""The residual blocks of ResNet; the sum's gradient overwrites the incoming gradient."""

from typing import Optional

from mmseg.models.backbones.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from ..lean.autograd_ops.bit_mask import empty_flags, mask_, pack_positive
from .conv_unit import ConvUnit, channel_pieces, is_affine_norm
from .fast_conv import is_plain_conv
from .operator import FrozenOperator, Sequence, Tape, build_operator, operator_for


class ResidualBlock(FrozenOperator):
    """relu(branch(x) + shortcut(x)).

    Args:
        branch: The convolutions; the last one has no ReLU.
        shortcut: The operator of the shortcut; None for the identity.
    """

    def __init__(self, branch: Sequence, shortcut: Optional[FrozenOperator]) -> None:
        self.branch, self.shortcut = branch, shortcut
        self.parts = [branch] if shortcut is None else [branch, shortcut]

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        y = self.branch.forward(x, tape)
        other = x if self.shortcut is None else self.shortcut.forward(x, tape)
        packed = empty_flags(y) if tape is not None else None
        for c, flags in channel_pieces(y.shape, y.is_contiguous(), y.device):
            part = y[:, c].add_(other[:, c]).relu_()
            if packed is not None:
                pack_positive(part, packed[flags])
        if tape is not None:
            tape.append(packed)
        return y

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        mask_(grad, tape.pop())
        if self.shortcut is not None:
            # Neither path ends in a ReLU, so neither overwrites the gradient that both need.
            total = self.shortcut.backward(grad, tape, into)
            return self.branch.backward(grad, tape, total)
        if into is None:
            # The gradient of the identity shortcut is the incoming gradient itself, so the branch's
            # gradient is added to it in place. This is safe: only the branch's last convolution
            # reads the incoming gradient, and only its first one adds to ``into``.
            into = grad
        else:
            into.add_(grad)
        return self.branch.backward(grad, tape, into)


@operator_for(BasicBlock, Bottleneck)
def _block(block: nn.Module) -> Optional[FrozenOperator]:
    count = 2 if isinstance(block, BasicBlock) else 3
    convs = [getattr(block, f'conv{i}') for i in range(1, count + 1)]
    norms = [getattr(block, f'norm{i}') for i in range(1, count + 1)]
    if (
        not all(map(is_plain_conv, convs))
        or not all(map(is_affine_norm, norms))
        or type(block.relu) is not nn.ReLU
        or getattr(block, 'with_plugins', False)
    ):
        return None
    branch = Sequence(
        ConvUnit(conv, norm, relu=index + 1 < count)
        for index, (conv, norm) in enumerate(zip(convs, norms))
    )
    shortcut = None
    if block.downsample is not None:
        shortcut = build_operator(block.downsample, 'downsample')
    return ResidualBlock(branch, shortcut)
