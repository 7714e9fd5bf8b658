"""Low-rank and high-rank adapters of a network's weights, merged into the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_LAYERS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
_WEIGHTS = ('weight', 'in_proj_weight')
_PARTS = ('low_down', 'low_up', 'high_down', 'high_up')


class RankAdapters(nn.Module):
    """Two adapters beside each linear layer, convolution and attention projection of a network.

    ViDA (arXiv 2306.04344, Eq. 1) adds U D x to a layer's output W x, once with few and once with
    many columns of U. Because W x + U D x = (W + U D) x, this module computes the merged weights.
    The network runs with them, so no layer is replaced and no activation is added. A convolution's
    kernel is treated as a matrix with a row for each output channel.

    Args:
        module: The network; not changed.
        prefix: The name of the network inside the whole model, with a dot at the end.
        low_rank, high_rank: Columns of U, from 1; at most the smaller side of the weight.
        seed: Seed of the initial random D. U starts at 0, so that the network is unchanged at
            first.

    Attributes:
        names: The names of the adapted weights, with the prefix.
    """

    def __init__(
        self, module: nn.Module, prefix: str, low_rank: int, high_rank: int, seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.names = []
        for name in _PARTS:
            setattr(self, name, nn.ParameterList())
        for path, layer in module.named_modules():
            if not isinstance(layer, _LAYERS):
                continue
            for key in _WEIGHTS:
                weight = layer._parameters.get(key)
                if weight is None:
                    continue
                self.names.append(f'{prefix}{path}.{key}' if path else f'{prefix}{key}')
                outputs, inputs = weight.flatten(1).shape
                for rank, down, up in (
                    (low_rank, self.low_down, self.low_up),
                    (high_rank, self.high_down, self.high_up),
                ):
                    rank = min(rank, outputs, inputs)
                    # The public code has the same standard deviation, 1 / rank².
                    start = torch.randn(rank, inputs, generator=generator) / rank**2
                    down.append(nn.Parameter(start.to(weight)))
                    up.append(nn.Parameter(weight.new_zeros(outputs, rank)))

    @torch.no_grad()
    def merged(
        self, tensors: Mapping[str, Tensor], own: str, low_scale: float, high_scale: float
    ) -> dict[str, Tensor]:
        """Returns tensors whose adapted weights are W + low_scale U D + high_scale U' D'.

        Args:
            tensors: The model's tensors by name, including the adapted weights and the adapters.
            own: The name of this module in the model, with a dot at the end.
            low_scale, high_scale: The factors of the low-rank and the high-rank product.

        Returns:
            A dictionary with the same names; only the adapted weights are new tensors.
        """
        merged = dict(tensors)
        for index, name in enumerate(self.names):
            parts = [tensors[f'{own}{part}.{index}'] for part in _PARTS]
            change = low_scale * (parts[1] @ parts[0]) + high_scale * (parts[3] @ parts[2])
            merged[name] = tensors[name] + change.view_as(tensors[name])
        return merged

    @torch.no_grad()
    def give_gradients(
        self, parameters: Mapping[str, nn.Parameter], low_scale: float, high_scale: float
    ) -> None:
        """Computes the adapters' ``.grad`` from the gradients of the merged weights.

        Args:
            parameters: The model's parameters by name. ``.grad`` of an adapted weight is the
                gradient of the merged weight.
            low_scale, high_scale: See ``merged``.
        """
        for index, name in enumerate(self.names):
            gradient = parameters[name].grad
            if gradient is None:
                continue
            gradient = gradient.flatten(1)
            for scale, downs, ups in (
                (low_scale, self.low_down, self.low_up),
                (high_scale, self.high_down, self.high_up),
            ):
                down, up = downs[index], ups[index]
                up.grad = scale * (gradient @ down.T)
                down.grad = scale * (up.T @ gradient)
