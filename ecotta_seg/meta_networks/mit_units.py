"""MixVisionTransformer (SegFormer B0 to B5) as a sequence of transformer layers.

Token tensors are (N, H*W, C) inside mmseg. This module passes them as (N, C, H, W) *views* of the
same memory (channels last), so that meta networks see feature maps without a copy.
"""

from typing import Optional

from mmseg.models.backbones import MixVisionTransformer
from torch import Tensor
from torch.nn import LayerNorm

from ..memory.frozen_graph import FrozenOperator, Sequence, build_operator
from ..memory.frozen_graph.transformer_layer import StageNorm
from .units import EncoderUnits, UnitShape, register_units


def _to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H*W, C) tokens as an (N, C, H, W) view."""
    # Not ``unflatten``: a tracer treats its sizes as constants.
    maps = tokens.transpose(1, 2)
    return maps.view(maps.shape[0], maps.shape[1], *size)


def _to_tokens(feature_map: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H*W, C); a view if the map comes from ``_to_map``."""
    return feature_map.flatten(2).transpose(1, 2)


@register_units(MixVisionTransformer)
class MixVisionTransformerUnits(EncoderUnits):
    """The transformer layers of a MiT; a stage's patch embedding belongs to its first layer.

    The first patch embedding is the stem. The norm at the end of a stage is applied in
    ``leave_stage``, after a meta network that sits on the stage's last layer.
    """

    def _positions(self) -> list[tuple[int, int]]:
        return [
            (stage, layer)
            for stage, (_, layers, _) in enumerate(self.backbone.layers)
            for layer in range(len(layers))
        ]

    def describe(self) -> list[UnitShape]:
        """See base class."""
        backbone = self.backbone
        channels = [backbone.embed_dims * heads for heads in backbone.num_heads]
        shapes = []
        for stage, layer in self._positions():
            enters = layer == 0 and stage > 0
            shapes.append(
                UnitShape(
                    in_channels=channels[stage - 1] if enters else channels[stage],
                    out_channels=channels[stage],
                    stride=backbone.strides[stage] if enters else 1,
                    stage=stage,
                    ends_stage=layer + 1 == len(backbone.layers[stage][1]),
                )
            )
        return shapes

    def stem(self, image: Tensor) -> Tensor:
        """See base class; (N, 3, H, W) to (N, C, ceil(H/4), ceil(W/4))."""
        return _to_map(*self.backbone.layers[0][0](image))

    def run(self, index: int, x: Tensor) -> Tensor:
        """See base class."""
        stage, layer = self._positions()[index]
        patch_embedding, layers, _ = self.backbone.layers[stage]
        if layer == 0 and stage > 0:
            tokens, size = patch_embedding(x)
        else:
            tokens, size = _to_tokens(x), tuple(x.shape[2:])
        return _to_map(layers[layer](tokens, size), size)

    def leave_stage(self, stage: int, x: Tensor) -> Tensor:
        """See base class. Applies the stage's LayerNorm; the result is contiguous, as in mmseg."""
        normed = self.backbone.layers[stage][2](_to_tokens(x))
        return _to_map(normed, tuple(x.shape[2:])).contiguous()

    def operator(self, index: int) -> FrozenOperator:
        """See base class. The operator of a stage's first layer includes the patch embedding."""
        stage, layer = self._positions()[index]
        patch_embedding, layers, _ = self.backbone.layers[stage]
        name = f'block {index + 1}'
        parts = [build_operator(layers[layer], name)]
        if layer == 0 and stage > 0:
            parts.insert(0, build_operator(patch_embedding, name))
        if any(part.fallbacks() for part in parts):
            # A fallback operator calls its module with the tokens alone, but these modules also
            # need (H, W).
            return super().operator(index)
        return Sequence(parts)

    def stage_operator(self, stage: int) -> Optional[FrozenOperator]:
        """See base class."""
        norm = self.backbone.layers[stage][2]
        return StageNorm(norm) if type(norm) is LayerNorm else super().stage_operator(stage)

    def collect(self, outputs: list[Tensor]) -> list[Tensor]:
        """See base class. A MiT returns its outputs as a list."""
        return outputs
