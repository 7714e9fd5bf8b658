"""Hand-written forward and backward passes of frozen modules, which keep few tensors."""

from . import (  # noqa: F401  (they register their modules)
    aspp_head,
    conv_unit,
    residual_block,
    segformer_head,
    transformer_layer,
)
from .decode_head import HeadOperator, PendingGradient, build_head_operator, head_operator_for
from .fast_conv import FastConv2d, replace_convolutions
from .feature_aligner import FeatureAligner
from .operator import FrozenOperator, Sequence, Tape, build_operator, operator_for

__all__ = [
    'FastConv2d',
    'FeatureAligner',
    'FrozenOperator',
    'HeadOperator',
    'PendingGradient',
    'Sequence',
    'Tape',
    'build_head_operator',
    'build_operator',
    'head_operator_for',
    'operator_for',
    'replace_convolutions',
]
