"""The layers of MixVisionTransformer (SegFormer), which need to keep only their input.

Tokens are (N, L, C), L = H * W tokens of C channels. Layers pass them on as (N, C, H, W) views of
the same memory (channels last), as in ``meta_networks.mit_units``.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from mmseg.models.backbones.mit import (
    EfficientMultiheadAttention,
    MixFFN,
    TransformerEncoderLayer,
)
from mmseg.models.utils import PatchEmbed
from torch import Tensor, nn

from ..lean.autograd_ops.attention import attend, attend_gradients_, scale_queries_
from ..lean.autograd_ops.frozen_conv import conv_input_gradient
from ..lean.autograd_ops.frozen_norm import layer_norm_input_gradient
from ..lean.autograd_ops.gelu import gelu_gradient_
from ..lean.autograd_ops.spans import spans
from .fast_conv import is_plain_conv
from .operator import FrozenOperator, Tape, add_into, operator_for

# Elements of the feed-forward's hidden maps that its backward holds at once.
HIDDEN_ELEMENTS = 2**21


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, L, C) as an (N, C, H, W) view."""
    return tokens.transpose(1, 2).unflatten(2, tuple(size))


def to_tokens(feature_map: Tensor) -> Tensor:
    """(N, C, H, W) as a contiguous (N, L, C); a view if the map comes from ``to_map``."""
    return feature_map.flatten(2).transpose(1, 2).contiguous()


def normed(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """The LayerNorm of tokens."""
    return F.layer_norm(tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def norm_gradient(norm: nn.LayerNorm, grad: Tensor, tokens: Tensor) -> Tensor:
    """The gradient of ``normed`` with respect to the tokens."""
    return layer_norm_input_gradient(
        grad, tokens, norm.normalized_shape, norm.weight, norm.bias, norm.eps
    )


class StageNorm(FrozenOperator):
    """A stage's LayerNorm: takes a view of tokens, returns a contiguous map, keeps the tokens."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self.norm = norm

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class. Input and output are (N, C, H, W)."""
        tokens = to_tokens(x)
        if tape is not None:
            tape.append((tokens, tuple(x.shape[2:])))
        return to_map(normed(self.norm, tokens), x.shape[2:]).contiguous()

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        tokens, size = tape.pop()
        return add_into(to_map(norm_gradient(self.norm, to_tokens(grad), tokens), size), into)


class _Attention:
    """x + attention(norm(x)) with keys and values at a reduced resolution."""

    def __init__(self, norm: nn.LayerNorm, module: EfficientMultiheadAttention) -> None:
        self.norm, self.module = norm, module
        attention = module.attn
        self.heads, self.width = attention.num_heads, attention.embed_dim
        self.scale = (1.0 / (self.width // self.heads)) ** 0.5

    def _split(self, tokens: Tensor) -> Tensor:
        """(L, N, C) as (N * heads, L, C / heads), a view."""
        length, frames, _ = tokens.shape
        return tokens.view(length, frames * self.heads, -1).transpose(0, 1)

    def _reduced(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The spatially reduced tokens for keys and values, before their norm: (N, L', C)."""
        return to_tokens(self.module.sr(to_map(x, size)))

    def _project(self, x: Tensor, size, reduced: Optional[Tensor]) -> tuple[Tensor, ...]:
        """Query (scaled), key and value of normed tokens (N, L, C), each split into heads."""
        attention, width = self.module.attn, self.width
        source = x if reduced is None else normed(self.module.norm, reduced)
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        parts = (None, None) if bias is None else bias.split([width, 2 * width])
        query = F.linear(x.transpose(0, 1), weight[:width], parts[0])
        both = F.linear(source.transpose(0, 1), weight[width:], parts[1])
        both = both.unflatten(-1, (2, width)).unsqueeze(0).transpose(0, -2).squeeze(-2)
        key, value = both.contiguous()
        return scale_queries_(self._split(query)), self._split(key), self._split(value)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, L, C) to the same shape."""
        tokens = normed(self.norm, x)
        reduced = self._reduced(tokens, size) if self.module.sr_ratio > 1 else None
        query, key, value = self._project(tokens, size, reduced)
        del tokens, reduced
        frames, length, _ = x.shape
        together = x.new_empty(length, frames, self.width)
        attend(query, key, value, self._split(together))
        del query, key, value
        output = self.module.attn.out_proj
        together = F.linear(together.view(length * frames, -1), output.weight, output.bias)
        return x + together.view(length, frames, -1).transpose(0, 1)

    def backward_(self, grad: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Turns the gradient of the sum into the gradient of ``x``, in place."""
        attention, width, weight = self.module.attn, self.width, self.module.attn.in_proj_weight
        tokens = normed(self.norm, x)
        reduced = self._reduced(tokens, size) if self.module.sr_ratio > 1 else None
        query, key, value = self._project(tokens, size, reduced)
        shape = tokens.shape
        del tokens
        of_heads = torch.matmul(grad.transpose(0, 1), attention.out_proj.weight)
        gradients = attend_gradients_(self._split(of_heads), query, key, value)
        del query, key, value
        length, frames = of_heads.shape[:2]
        of_query = of_heads.mul_(self.scale).view(-1, width)
        of_tokens = torch.mm(of_query, weight[:width]).view(length, frames, width)
        of_tokens = of_tokens.transpose(0, 1).contiguous()
        del of_heads, of_query
        joined = [part.transpose(0, 1).reshape(-1, width) for part in gradients[1:]]
        del gradients
        of_source = torch.mm(joined[0], weight[width : 2 * width])
        of_source.addmm_(joined[1], weight[2 * width :])
        of_source = of_source.view(-1, frames, width).transpose(0, 1).contiguous()
        if reduced is None:
            of_tokens.add_(of_source)
        else:
            of_source = norm_gradient(self.module.norm, of_source, reduced)
            sr = self.module.sr
            side = [length // stride for length, stride in zip(size, sr.stride)]
            of_map = conv_input_gradient(
                to_map(of_source, side), sr.weight, (frames, width, *size), sr.stride,
                sr.padding, sr.dilation, sr.groups,
            )  # fmt: skip
            of_tokens.add_(of_map.flatten(2).transpose(1, 2))
            del of_map
        del of_source
        return grad.add_(norm_gradient(self.norm, of_tokens.view(shape), x))


class _FeedForward:
    """x + fc2(gelu(depthwise(fc1(norm(x)))))."""

    def __init__(self, norm: nn.LayerNorm, module: MixFFN) -> None:
        self.norm = norm
        self.expand, self.depthwise, self.gelu, _, self.reduce, _ = module.layers

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, L, C) to the same shape."""
        hidden = self.expand(to_map(normed(self.norm, x), size))
        hidden = self.depthwise(hidden)
        approximate = self.gelu.approximate
        torch.ops.aten.gelu.out(hidden, approximate=approximate, out=hidden)
        return x + to_tokens(self.reduce(hidden))

    def backward_(self, grad: Tensor, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Turns the gradient of the sum into the gradient of ``x``, in place.

        The hidden maps are computed a few channels at a time.
        """
        frames, _, width = x.shape
        inputs, upstream = normed(self.norm, x).view(-1, width), grad.view(-1, width)
        total = torch.zeros_like(inputs)
        into_hidden = self.expand.weight.flatten(1)
        out_of_hidden = self.reduce.weight.flatten(1)
        kernel, padding = self.depthwise.weight, self.depthwise.padding
        step = max(8, HIDDEN_ELEMENTS // inputs.shape[0])
        for c in spans(kernel.shape[0], step, x.device):
            hidden = F.linear(inputs, into_hidden[c], _piece(self.expand.bias, c))
            hidden = to_map(hidden.view(frames, -1, hidden.shape[1]), size)
            groups = hidden.shape[1]
            hidden = to_tokens(
                F.conv2d(
                    hidden, kernel[c], _piece(self.depthwise.bias, c), padding=padding,
                    groups=groups,
                )
            )  # fmt: skip
            part = torch.mm(upstream, out_of_hidden[:, c]).view(hidden.shape)
            gelu_gradient_(part, hidden, self.gelu.approximate)
            del hidden
            # The transpose of a depthwise 'same' convolution uses the mirrored kernel.
            part = F.conv2d(
                to_map(part, size), kernel[c].flip(2, 3), padding=padding, groups=groups
            )
            total.addmm_(to_tokens(part).view(-1, groups), into_hidden[c])
            del part
        del inputs, upstream
        return grad.add_(norm_gradient(self.norm, total.view(x.shape), x))


def _piece(bias: Optional[Tensor], channels: slice) -> Optional[Tensor]:
    return None if bias is None else bias[channels]


class TransformerLayer(FrozenOperator):
    """Attention and feed-forward of one layer, on a map that is a view of tokens.

    Keeps the layer's input, and with a generous tape also the tokens between its two halves.

    Args:
        layer: A layer that ``is_known_layer`` accepts.
    """

    def __init__(self, layer: TransformerEncoderLayer) -> None:
        self.attention = _Attention(layer.norm1, layer.attn)
        self.feed_forward = _FeedForward(layer.norm2, layer.ffn)

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class."""
        tokens, size = to_tokens(x), tuple(x.shape[2:])
        middle = self.attention.forward(tokens, size)
        if tape is not None:
            tape.append((tokens, middle if tape.generous else None, size))
        return to_map(self.feed_forward.forward(middle, size), size)

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        tokens, middle, size = tape.pop()
        if middle is None:
            middle = self.attention.forward(tokens, size)
        gradient = self.feed_forward.backward_(to_tokens(grad), middle, size)
        del middle
        return add_into(to_map(self.attention.backward_(gradient, tokens, size), size), into)


class PatchEmbedding(FrozenOperator):
    """A convolution and the LayerNorm of its output's tokens; keeps the tokens.

    Args:
        module: mmseg's ``PatchEmbed`` with a plain convolution and a LayerNorm.
    """

    def __init__(self, module: nn.Module) -> None:
        self.conv, self.norm = module.projection, module.norm

    def forward(self, x: Tensor, tape: Optional[Tape] = None) -> Tensor:
        """See base class. The output is a map (N, C, H, W) that is a view of tokens."""
        y = self.conv(x)
        size, tokens = tuple(y.shape[2:]), y.flatten(2).transpose(1, 2)
        del y
        if tape is not None:
            tape.append((tokens, tuple(x.shape), size))
        return to_map(normed(self.norm, tokens), size)

    def backward(self, grad: Tensor, tape: Tape, into: Optional[Tensor] = None) -> Tensor:
        """See base class."""
        tokens, shape, size = tape.pop()
        gradient = to_map(norm_gradient(self.norm, to_tokens(grad), tokens), size).contiguous()
        conv = self.conv
        return conv_input_gradient(
            gradient, conv.weight, shape, conv.stride, conv.padding, conv.dilation, conv.groups,
            into,
        )  # fmt: skip


@operator_for(TransformerEncoderLayer)
def _layer(layer: TransformerEncoderLayer) -> Optional[FrozenOperator]:
    return TransformerLayer(layer) if is_known_layer(layer) else None


@operator_for(PatchEmbed)
def _patch_embedding(module: PatchEmbed) -> Optional[FrozenOperator]:
    known = (
        module.adap_padding is None
        and is_plain_conv(module.projection)
        and type(module.norm) is nn.LayerNorm
    )
    return PatchEmbedding(module) if known else None


def is_known_layer(layer: nn.Module) -> bool:
    """Whether a transformer layer has the structure of mmseg's SegFormer."""
    if type(layer) is not TransformerEncoderLayer:
        return False
    attention, feed_forward = layer.attn, layer.ffn
    return (
        type(attention) is EfficientMultiheadAttention
        and type(feed_forward) is MixFFN
        and type(layer.norm1) is type(layer.norm2) is nn.LayerNorm
        and (attention.sr_ratio == 1 or type(attention.norm) is nn.LayerNorm)
        and attention.attn._qkv_same_embed_dim
        and type(feed_forward.layers[2]) is nn.GELU
        and attention.batch_first
    )
