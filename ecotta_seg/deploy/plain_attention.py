"""Attention as matrix products whose shapes depend on the input, for the tracer."""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainAttention(nn.Module):
    """``nn.MultiheadAttention`` without masks and without dropout.

    In torch's own module, the tracer treats the lengths as constants.

    Args:
        source: The module to replace; not changed.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first = source.num_heads, source.batch_first
        if source.in_proj_weight is None:
            weights = [source.q_proj_weight, source.k_proj_weight, source.v_proj_weight]
        else:
            weights = list(source.in_proj_weight.chunk(3))
        biases: list[Optional[Tensor]] = [None] * 3
        if source.in_proj_bias is not None:
            biases = list(source.in_proj_bias.chunk(3))
        layers = []
        for weight, bias in zip(weights, biases):
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
            layer.weight = nn.Parameter(weight.detach().clone(), False)
            if bias is not None:
                layer.bias = nn.Parameter(bias.detach().clone(), False)
            layers.append(layer)
        self.projections = nn.ModuleList(layers)
        self.out_proj = source.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, **options
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Returns the attended values, and None in place of the attention weights.

        Args:
            query, key, value: (length, 1, channels); (1, length, channels) if batches come first.
            **options: Options of ``nn.MultiheadAttention``, but no masks.

        Raises:
            ValueError: There is a mask.
        """
        if options.get('attn_mask') is not None or options.get('key_padding_mask') is not None:
            raise ValueError('expected attention without a mask: such a model cannot be exported')
        projected = []
        for layer, x in zip(self.projections, (query, key, value)):
            x = layer(x if self.batch_first else x.transpose(0, 1))
            x = x.reshape(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads)
            projected.append(x.transpose(1, 2))
        query, key, value = projected
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        attended = (torch.softmax(scores, -1) @ value).transpose(1, 2)
        out = F.linear(attended.flatten(2), self.out_proj.weight, self.out_proj.bias)
        return (out if self.batch_first else out.transpose(0, 1)), None


def is_plain(attention: nn.Module) -> bool:
    """Whether ``PlainAttention`` can replace a module."""
    return (
        type(attention) is nn.MultiheadAttention
        and attention.bias_k is None
        and not attention.add_zero_attn
    )
