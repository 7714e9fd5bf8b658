"""The hand-written forward and backward of a meta network, a few channels at a time.

Letters: x = x_k is the frozen part's output, p = x̃_{k-1} the part's input, g the gradient of the
prediction's entropy with respect to x̃_k, r the gradient of the regulariser. The parameters receive
u = g + r; earlier parts receive g alone (Algorithm 1 of EcoTTA, arXiv 2303.01904: each R_k reaches
part k only).
"""

from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn

from ...layers.losses import SMALLEST_SIZE, smooth_distance_, smooth_slope_
from ...meta_networks.meta_network import MetaNetwork
from ...meta_networks.norms import FrameBatchNorm2d
from ..frozen_graph import Tape
from ..lean import lean_autograd
from ..lean.autograd_ops.bit_mask import add_sign_, mask_, pack_positive
from ..lean.autograd_ops.frame_norm import FrameStatistics
from ..lean.autograd_ops.frame_region import of_frame
from ..lean.autograd_ops.frozen_conv import conv_input_gradient, conv_weight_gradient
from ..lean.autograd_ops.winograd import is_faster, winograd_conv2d
from .piece_norms import norm_backward, normed_again, statistics_norm

# Elements of one piece of the channels. Norms and ReLUs process one piece at a time, so that the
# data stay in the cache or near it.
PIECE = 2**20
# Takes (parameter, gradient, rows): the gradient belongs to these rows (first axis) of the
# parameter, or to the whole parameter if rows is None.
Deliver = Callable[[nn.Parameter, Tensor, Optional[slice]], None]


class _Piece(NamedTuple):
    """The data kept for a piece of the channels."""

    channels: slice
    passed: Tensor  # bits: the input of the block's ReLU is above 0
    above: Optional[Tensor]  # bits: x̃_k > x_k; None if R_k is smooth
    below: Optional[Tensor]  # bits: x̃_k < x_k; None if R_k is smooth
    norm: FrameStatistics
    block_norm: FrameStatistics


class _Saved(NamedTuple):
    pieces: list[_Piece]
    output: Optional[Tensor]
    block: Optional[Tensor]
    scale: float  # factor on the mean of |x̃_k - x_k| over all of x
    knee: float  # |x̃_k - x_k| above which R_k is linear


class MetaNetworkOperator:
    """Runs one meta network.

    If the meta network has the paper's norms and convolution, the operator processes a few channels
    at a time. If not (norms of tokens, depthwise kernels, a coarser grid), autograd runs the whole
    meta network during the backward pass of its part.

    Args:
        module: The meta network.
        relative: Whether R_k is divided by mean |x_k|.
        smoothing: See ``self_distilled_regularisation``.
    """

    def __init__(self, module: MetaNetwork, relative: bool = False, smoothing: float = 0.0) -> None:
        self.module, self.relative, self.smoothing = module, relative, smoothing
        norms = (module.norm, module.block_norm)
        self.by_channels = (
            type(module.conv) is nn.Conv2d
            and module.expand is None
            and module.pool is None
            and (module.start == 'paper') == (module.gain is None)
            and all(type(norm) is FrameBatchNorm2d for norm in norms)
        )

    def forward(
        self,
        x: Tensor,
        p: Tensor,
        tape: Optional[Tape] = None,
        keep_output: bool = True,
        keep_block: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Computes x̃_k, bit for bit as the module does.

        Args:
            x: (N, C, H, W). If x is not kept, x̃_k may overwrite its memory.
            p: (N, C', H', W').
            tape: Receives the tensors for ``backward``; None if there is no backward.
            keep_output: Whether to put x on the tape.
            keep_block: Whether to put the convolution's output on the tape.

        Returns:
            x̃_k and R_k = mean |x̃_k - x_k|, a scalar, divided by mean |x_k| if ``relative`` and
            quadratic near 0 if there is a ``smoothing``.
        """
        scale, knee = self._units(x)
        # In views of tokens the channels are adjacent in memory, so a norm rounds differently.
        if not self.by_channels or not x.is_contiguous() or self._one_value(x):
            adapted = self.module(x, p)
            difference = smooth_distance_(self._measured(adapted - x), knee).mean() * scale
            if tape is not None:
                tape.append(_Saved([], x if keep_output else None, None, scale, knee))
            return adapted, difference
        module, gain, strength = self.module, self.module.gain, self.module.strength
        y = module.convolve(p)
        keep_output, keep_block = keep_output and tape is not None, keep_block and tape is not None
        adapted = torch.empty_like(x) if keep_output else x
        pieces, total = [], x.new_zeros((), dtype=torch.float64)
        for c in _channel_pieces(x):
            frozen = x[:, c].contiguous()
            block, of_block = statistics_norm(module.block_norm, y[:, c].contiguous(), c)
            block.relu_()
            passed = pack_positive(block) if tape is not None else None
            result, of_frozen = statistics_norm(module.norm, frozen, c)
            if gain is not None:
                if strength != 1:
                    result.mul_(strength)
                result.add_(frozen)
                block.mul_((gain[c] * strength).view(-1, 1, 1))
            result.add_(block)
            # The meta network's change overwrites the block's memory.
            self._measured(torch.sub(result, frozen, out=block))
            adapted[:, c] = result
            if tape is not None:
                signs = (None, None)
                if not knee:
                    signs = pack_positive(block), pack_positive(block.neg_())
                pieces.append(_Piece(c, passed, *signs, of_frozen, of_block))
            total += smooth_distance_(block, knee).sum(dtype=torch.float64)
            del frozen, block, result
        if tape is not None:
            kept = (x if keep_output else None, y if keep_block else None)
            tape.append(_Saved(pieces, *kept, scale, knee))
        return adapted, (total * scale / x.numel()).to(x.dtype)

    def _one_value(self, x: Tensor) -> bool:
        """Whether the frame has only one value per channel, which has no variance."""
        return of_frame(x[:, 0:1], self.module.region).numel() == 1

    def _measured(self, difference: Tensor) -> Tensor:
        """Sets the padding of (N, C, H, W) to 0, in place: R_k does not cover padding."""
        region = self.module.region
        return difference if region is None else region.clear_outside_(difference)

    def _units(self, x: Tensor) -> tuple[float, float]:
        """The factor that turns the mean over all of x into R_k, and R_k's knee."""
        frame = of_frame(x, self.module.region)
        share = x.numel() / frame.numel()
        if not self.relative and not self.smoothing:
            return share, 0.0
        if x.is_meta:
            return share, self.smoothing
        # A sum per row needs no temporary of x's size, even with a float64 total.
        total = torch.linalg.vector_norm(frame, 1, dim=3).sum(dtype=torch.float64)
        size = max(float(total) / frame.numel(), SMALLEST_SIZE)
        return share / size if self.relative else share, self.smoothing * size

    def backward(
        self,
        grad: Tensor,
        p: Tensor,
        tape: Tape,
        frozen_output: Callable[[], Tensor],
        factor: float,
        deliver: Deliver,
        further: bool,
        workspace: int = 2**22,
    ) -> tuple[Optional[Tensor], Optional[Tensor]]:
        """Computes the gradients by the parameters, the frozen part's output and the part's input.

        Args:
            grad: g, (N, C, H, W), contiguous; the gradient of x overwrites its memory.
            p: The part's input, as in the forward pass.
            tape: The tape of the forward pass.
            frozen_output: Recomputes x if it was not kept.
            factor: Weight of the regulariser divided by the number of x's elements. r is this
                factor times the slope of |x̃_k - x_k| (the sign, or less near 0 if R_k is smooth).
                If R_k is relative, r is also divided by mean |x_k|. If x has padding, r is 0 there
                and divided by the frame's share of x elsewhere.
            deliver: Called with each parameter and its gradient, see ``Deliver``.
            further: Whether earlier parts need gradients; False for the first part.
            workspace: Elements of a group of channels that one convolution processes.

        Returns:
            The gradients of x and of p from the meta network alone; None if not ``further``.
        """
        saved: _Saved = tape.pop()
        factor *= saved.scale
        x = frozen_output() if saved.output is None else saved.output
        if not saved.pieces:
            return self._backward_by_autograd(grad, x, p, factor, saved.knee, deliver, further)
        conv = self.module.conv
        geometry = (conv.stride, conv.padding)
        room = min(max(2 * workspace - 2**20, 2**20), 2**24)
        of_input = None
        for group in _groups(saved.pieces, x, workspace):
            rows = slice(group[0].channels.start, group[-1].channels.stop)
            if saved.block is None:
                y = self._convolve_again(p, rows, room)
            else:
                y = saved.block[:, rows]
            for piece in group:
                inner = slice(piece.channels.start - rows.start, piece.channels.stop - rows.start)
                self._piece_backward(
                    piece, grad, x, y[:, inner], factor, saved.knee, deliver, further
                )
            if further:
                # Must precede the delivery of the kernel's gradient, which may change the kernel.
                of_input = conv_input_gradient(
                    x[:, rows], conv.weight[rows], p.shape, *geometry, into=of_input,
                    workspace=room,
                )  # fmt: skip
            of_kernel = conv_weight_gradient(p, y, conv.kernel_size, *geometry, room)
            del y
            deliver(conv.weight, of_kernel, rows)
            del of_kernel
        return (grad, of_input) if further else (None, None)

    def _piece_backward(
        self, piece: _Piece, grad, x, output, factor, knee, deliver, further: bool
    ) -> None:
        """Backward of the norms and the ReLU for a piece of the channels.

        This is the last read of the inputs, so gradients overwrite their memory. ``output`` (of
        the convolution) becomes its own gradient from u. The channels of ``x`` become the gradient
        of the convolution's output from g. The channels of ``grad`` become the gradient of x.
        """
        module, gain, c = self.module, self.module.gain, piece.channels
        strength = 1.0 if gain is None else module.strength
        frozen, g, y = (t.contiguous() for t in (x[:, c], grad[:, c], output))
        if knee:
            u = smooth_slope_(self._change(piece, frozen, y), knee).mul_(factor).add_(g)
        else:
            u = add_sign_(g.clone(), piece.above, piece.below, factor)
        _, of_norm_weight, of_norm_bias = norm_backward(
            module.norm, c, u, frozen, piece.norm, [False, True, True]
        )
        # A norm's backward is linear, so the gain can be applied after it. The gain's gradient, the
        # sum of the gradient times the block, follows from those of the norm's scale and shift.
        scale = 1.0 if gain is None else (gain[c] * strength).view(-1, 1, 1)
        of_norm_weight.mul_(strength)
        of_norm_bias.mul_(strength)
        result, of_weight, of_bias = norm_backward(
            module.block_norm, c, mask_(u, piece.passed), y, piece.block_norm, [True] * 3
        )
        if gain is not None:
            norm = module.block_norm
            of_gain = (of_weight * norm.weight[c] + of_bias * norm.bias[c]).mul_(strength)
            of_weight.mul_(scale.flatten())
            of_bias.mul_(scale.flatten())
        del u
        if further:
            passed = mask_(g.clone(), piece.passed)
            for_input, _, _ = norm_backward(
                module.block_norm, c, passed, y, piece.block_norm, [True, False, False]
            )
            del passed
            of_frozen, _, _ = norm_backward(
                module.norm, c, g, frozen, piece.norm, [True, False, False]
            )
            torch.mul(for_input, scale, out=x[:, c])
            if gain is None:
                grad[:, c] = of_frozen
            else:
                torch.add(g, of_frozen, alpha=strength, out=grad[:, c])
            del for_input, of_frozen
        torch.mul(result, scale, out=output)
        del result
        # Must come last, because a delivery may change the parameters.
        deliver(module.norm.weight, of_norm_weight, c)
        deliver(module.norm.bias, of_norm_bias, c)
        deliver(module.block_norm.weight, of_weight, c)
        deliver(module.block_norm.bias, of_bias, c)
        if gain is not None:
            deliver(gain, of_gain, c)

    def _change(self, piece: _Piece, frozen: Tensor, output: Tensor) -> Tensor:
        """x̃_k - x_k of a piece of the channels, 0 in the padding."""
        module, c = self.module, piece.channels
        block = normed_again(module.block_norm, c, output, piece.block_norm).relu_()
        change = normed_again(module.norm, c, frozen, piece.norm)
        if module.gain is None:
            return self._measured(change.add_(block).sub_(frozen))
        block.mul_(module.gain[c].view(-1, 1, 1))
        return self._measured(change.add_(block).mul_(module.strength))

    def _convolve_again(self, p: Tensor, channels: slice, workspace: int) -> Tensor:
        conv = self.module.conv
        weight = conv.weight[channels]
        geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        if is_faster(weight.shape, *geometry, weight.device.type):
            return winograd_conv2d(p, weight, 1, workspace)
        return torch.conv2d(p, weight, None, *geometry)

    def _backward_by_autograd(self, grad, x, p, factor, knee, deliver, further):
        parameters = list(self.module.parameters())
        with torch.enable_grad(), lean_autograd():
            frozen = x.detach().requires_grad_(further)
            part_input = p.detach().requires_grad_(further)
            adapted = self.module(frozen, part_input)
        change = self._measured(adapted.detach() - x)
        u = (smooth_slope_(change, knee) if knee else change.sign_()).mul_(factor).add_(grad)
        gradients = torch.autograd.grad(adapted, parameters, u, retain_graph=further)
        del u
        # Must precede any delivery, which may change a parameter that is still in use.
        onward = (None, None)
        if further:
            onward = torch.autograd.grad(adapted, (frozen, part_input), grad)
        for parameter, gradient in zip(parameters, gradients):
            deliver(parameter, gradient, None)
        return onward


def _channel_pieces(x: Tensor) -> list[slice]:
    size = max(1, PIECE // (x.shape[0] * x.shape[2] * x.shape[3]))
    return [slice(a, min(a + size, x.shape[1])) for a in range(0, x.shape[1], size)]


def _groups(pieces: list[_Piece], x: Tensor, workspace: int) -> list[list[_Piece]]:
    """Pieces in groups of at most ``workspace`` elements, or single larger pieces."""
    first = pieces[0].channels
    elements = (first.stop - first.start) * x[:, 0].numel()
    size = max(1, workspace // max(1, elements))
    return [pieces[start : start + size] for start in range(0, len(pieces), size)]
