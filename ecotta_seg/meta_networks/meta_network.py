"""One meta network: a norm on a frozen part's output plus a conv block on its input."""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..memory.lean.autograd_ops.autocast import under_autocast
from ..memory.lean.autograd_ops.frame_region import FrameRegion
from ..memory.lean.autograd_ops.winograd import conv3x3, is_faster
from .attention_pool import AttentionPool
from .norms import build_norm

STARTS = ('paper', 'identity')


class MetaNetwork(nn.Module):
    """x̃_k = norm(x_k) + conv_block(x̃_{k-1}) (EcoTTA, arXiv 2303.01904, Section 3.1, Fig. 3).

    With ``start='identity'`` (ours, not the paper's) the same terms form a residual that starts at
    zero: x̃_k = x_k + norm(x_k) + gain * conv_block(x̃_{k-1}). The norm's scale, the norm's shift
    and the gain start at zero. A model with new meta networks therefore gives bit for bit the same
    outputs as the source model, and no warm-up is needed. The gain has one number per channel.
    Without the gain, the conv block's own norm would have to start at zero, and its ReLU would stay
    dead forever.

    Shapes: N frames, C_in channels of the part's input, C_out of its output, s the part's stride.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        stride: s, the product of the strides of the part's units.
        kernel_size: Odd kernel of the conv block: 3 as in the paper, 1 for the light variant.
        depthwise: If True, the conv block has a depthwise convolution and a 1x1 convolution in
            place of one full convolution.
        norm: Norm on the part's output: 'BN' (paper), 'LN' (over the channels, as transformers
            have), 'GN', or 'affine' (scale and shift alone).
        block_norm: Norm of the conv block, one of the same names. None takes the name in ``norm``;
            if that is 'affine', None takes 'BN'.
        start: 'paper' or 'identity'.
        reduction: r. The conv block is C_out / r wide, and a 1x1 convolution without an activation
            expands it to C_out (as in adapters and LST's side networks, arXiv 2206.06522). The
            activations kept for backward and the weights shrink accordingly. With an identity
            start, this convolution starts at zero and there is no gain. 1 is the paper's block.
        coarse: The input of the conv block is pooled by attention over cells of ``coarse`` x
            ``coarse`` pixels (see ``AttentionPool``), and its output is enlarged again. A larger
            value needs less memory and gives a larger receptive field. 1 is the paper's block.

    Attributes:
        strength: With an identity start, the factor on the meta network's change, 0 to 1:
            x̃_k = x_k + strength * (norm(x_k) + gain * conv_block(x̃_{k-1})).
        region: The part of the output that the regulariser covers, see ``measuring``; None for
            all of the output.

    Raises:
        ValueError: The norm or start is unknown, the kernel size is not odd and positive, or the
            reduction or ``coarse`` is below 1.
    """

    region: Optional[FrameRegion] = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        kernel_size: int = 3,
        depthwise: bool = False,
        norm: str = 'BN',
        block_norm: Optional[str] = None,
        start: str = 'paper',
        reduction: int = 1,
        coarse: int = 1,
    ) -> None:
        super().__init__()
        if start not in STARTS:
            raise ValueError(f'expected start to be one of {STARTS}, got {start!r}')
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'expected an odd, positive kernel_size, got {kernel_size!r}')
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f'expected a whole reduction from 1, got {reduction!r}')
        if not isinstance(coarse, int) or coarse < 1:
            raise ValueError(f'expected a whole coarse from 1, got {coarse!r}')
        self.start, self.strength = start, 1.0
        self.pool = AttentionPool(in_channels, coarse) if coarse > 1 else None
        width = max(1, out_channels // reduction)
        self.norm = build_norm(norm, out_channels)
        if block_norm is None:
            block_norm = 'BN' if norm == 'affine' else norm
        spatial = dict(kernel_size=kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        if depthwise and kernel_size > 1:
            self.conv = nn.Sequential(
                nn.Conv2d(in_channels, in_channels, groups=in_channels, **spatial),
                nn.Conv2d(in_channels, width, kernel_size=1, bias=False),
            )
        else:
            self.conv = nn.Conv2d(in_channels, width, **spatial)
        self.block_norm = build_norm(block_norm, width)
        self.activation = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(width, out_channels, 1, bias=False) if reduction > 1 else None
        self.register_parameter('gain', None)
        if start == 'identity':
            nn.init.zeros_(self.norm.weight)
            if self.expand is not None:
                nn.init.zeros_(self.expand.weight)
            else:
                self.gain = nn.Parameter(torch.zeros(out_channels))

    def convolve(self, part_input: Tensor) -> Tensor:
        """Runs the block's convolution, by Winograd's algorithm or by torch.

        Winograd's algorithm runs if the convolution is faster with it and the module is not in
        training mode. Under autocast, torch's convolution runs, in the lower precision: Winograd's
        transforms would lose too much accuracy there.
        """
        conv = self.conv
        if (
            not self.training
            and isinstance(conv, nn.Conv2d)
            and part_input.is_contiguous()
            and not under_autocast(part_input)
            and is_faster(
                conv.weight.shape, conv.stride, conv.padding, conv.dilation, conv.groups,
                conv.weight.device.type,
            )
        ):  # fmt: skip
            return conv3x3(part_input, conv.weight)
        return conv(part_input)

    def conv_block(self, part_input: Tensor) -> Tensor:
        """Conv, norm, ReLU: (N, C_in, H, W) to (N, C_out, ceil(H/s), ceil(W/s)).

        With ``coarse`` the result is smaller by this factor, see ``on_grid_of``.
        """
        if self.pool is not None:
            part_input = self.pool(part_input)
        block = self.activation(self.block_norm(self.convolve(part_input)))
        return block if self.expand is None else self.expand(block)

    def on_grid_of(self, part_output: Tensor, block: Tensor) -> Tensor:
        """The conv block's output on the grid of the part's output, enlarged if it is coarse."""
        if self.pool is None and block.shape[2:] == part_output.shape[2:]:
            return block
        return F.interpolate(block, part_output.shape[2:], mode='bilinear', align_corners=False)

    def forward(self, part_output: Tensor, part_input: Tensor) -> Tensor:
        """Computes the part's adapted output.

        Args:
            part_output: x_k, (N, C_out, H', W'), the frozen part's output for ``part_input``.
            part_input: x̃_{k-1}, (N, C_in, H, W), H' = ceil(H / s), W' likewise.

        Returns:
            x̃_k, (N, C_out, H', W').
        """
        block = self.conv_block(part_input)
        if self.start == 'paper':
            return self.norm(part_output) + self.on_grid_of(part_output, block)
        change, gain = self.norm(part_output), self.gain
        if self.strength != 1:
            change = change * self.strength
            gain = self.strength if gain is None else gain * self.strength
        if isinstance(gain, Tensor):
            block = gain.view(-1, 1, 1) * block
        elif gain is not None:
            block = gain * block
        return part_output + change + self.on_grid_of(part_output, block)
