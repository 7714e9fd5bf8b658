"""EcoTTA's step without autograd: a plan decides which tensors to keep, recompute and free."""

from contextlib import nullcontext
from typing import Callable, Optional

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor, nn

from ...inference.padding import frame_region, without_padding
from ...inference.windows import over_windows
from ...meta_networks import AdaptedEncoder
from ..budget.plan import Plan
from ..frozen_graph import Tape, build_head_operator
from ..lean.autograd_ops.pixel_entropy import entropy_gradient_, entropy_map
from ..lean.autograd_ops.resize import resize_bilinear, resize_input_gradient
from ..lean.autograd_ops.winograd_tiles import shared_scratch
from .encoder_operator import EncoderOperator
from .meta_operator import Deliver

# A function that takes entropy (N, H, W) and logits (N, C, H, W) and returns pixel weights (N, H,
# W).
Weigh = Callable[[Tensor, Tensor], Tensor]


class WindowResult:
    """The result of one forward and backward pass.

    Attributes:
        logits: (N, classes, H, W), the prediction.
        entropy: The weighted mean entropy, a scalar tensor.
        confident_fraction: Share of the pixels with a weight above 0, a scalar tensor.
        regularisation: Sum of the R_k, a scalar tensor.
    """

    def __init__(self, logits, entropy, confident_fraction, regularisation) -> None:
        self.logits, self.entropy = logits, entropy
        self.confident_fraction, self.regularisation = confident_fraction, regularisation


def unsupported_reason(segmentor: nn.Module) -> Optional[str]:
    """Names the part of a segmentor that the engine does not support, or None.

    The engine runs the backbone and one decode head, and resizes the head's logits. It has no
    backward pass for a neck, for several heads in a row (OCRNet, PointRend), or for a head that
    overrides ``predict`` (DANet, EncNet).

    Args:
        segmentor: An mmseg ``EncoderDecoder`` with meta networks attached.

    Returns:
        Kind and class of the part, for the report; None if the engine supports the segmentor.
    """
    backbone, head = segmentor.backbone, segmentor.decode_head
    if type(backbone) is not AdaptedEncoder:
        return f'backbone ({type(backbone.backbone).__name__})'
    if getattr(segmentor, 'with_neck', False):
        return f'neck ({type(segmentor.neck).__name__})'
    if isinstance(head, nn.ModuleList):
        return f'decode heads ({", ".join(type(stage).__name__ for stage in head)})'
    if not _keeps(head, BaseDecodeHead, 'predict', 'predict_by_feat'):
        return f'decode head ({type(head).__name__})'
    if not _keeps(segmentor, EncoderDecoder, 'encode_decode', 'extract_feat'):
        return f'segmentor ({type(segmentor).__name__})'
    return None


def _keeps(module: nn.Module, base: type, *names: str) -> bool:
    """Whether a module's class inherits these methods from ``base`` unchanged."""
    return all(getattr(type(module), name, None) is getattr(base, name) for name in names)


class MemoryEngine:
    """Handwritten forward and backward of a segmentor with meta networks.

    The gradients equal those of plain autograd up to rounding: the forward pass runs the same
    operators in the same order, so every ReLU passes the same elements, and the backward pass is
    linear.

    Args:
        segmentor: An mmseg ``EncoderDecoder`` whose backbone is an ``AdaptedEncoder``; everything
            else is frozen.
        relative_regularisation: Whether each R_k is divided by mean |x_k|.
        smoothing: See ``self_distilled_regularisation``.

    Raises:
        ValueError: The engine does not support the segmentor, see ``unsupported_reason``.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        relative_regularisation: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        unknown = unsupported_reason(segmentor)
        if unknown is not None:
            raise ValueError(
                f'the memory engine does not know the {unknown} of this model: set '
                'memory_engine=False to adapt it by plain autograd'
            )
        self.segmentor = segmentor
        self.encoder: AdaptedEncoder = segmentor.backbone
        self.operator = EncoderOperator(self.encoder, relative_regularisation, smoothing)
        self.head = build_head_operator(segmentor.decode_head)

    def fallbacks(self) -> list[str]:
        """Names of frozen modules without an operator, which lean autograd runs."""
        return self.operator.fallbacks() + self.head.fallbacks()

    @torch.no_grad()
    def run(
        self,
        inputs: Tensor,
        metas: list[dict],
        share: float,
        plan: Plan,
        weigh: Weigh,
        regularisation_weight: float,
        deliver: Deliver,
    ) -> WindowResult:
        """Predicts one sliding window, computes the gradients of its loss, and calls ``deliver``.

        Args:
            inputs: (N, 3, H, W), preprocessed.
            metas: Metainfo of the N samples.
            share: The weight of this sliding window in the frame; the weights sum to 1.
            plan: Selects the tensors to keep.
            weigh: Computes the weights of the pixels in the entropy.
            regularisation_weight: λ.
            deliver: Called with each parameter of the meta networks and its gradient, see
                ``Deliver``.

        Returns:
            The prediction and the terms of the loss.
        """
        tape = Tape(workspace=plan.workspace)
        size = _output_size(metas[0], inputs)
        corners = self.segmentor.decode_head.align_corners
        with shared_scratch() if plan.share_scratch else nullcontext():
            features, differences = self.operator.forward(inputs, plan, self.head.reads)
            small = self.head.forward(features, tape)
            del features
            grad, entropy, fraction = self._entropy_gradient(small, metas[0], size, weigh, share)
            pending = self.head.backward(grad, tape)
            del grad
            self.operator.backward(pending, plan, share * regularisation_weight, deliver)
        # The logits are computed again and not kept, so that no full-size tensor is in memory
        # during the backward.
        logits = resize_bilinear(small, size, corners)
        return WindowResult(logits, entropy, fraction, torch.stack(differences).sum())

    @torch.no_grad()
    def predict_frozen(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """Predicts a frame without the meta networks, in the model's test mode.

        The run needs less memory than mmseg's own inference, which keeps every stage's output, and
        less than any step on the frame.

        Args:
            inputs: (N, 3, H, W), preprocessed.
            metas: Metainfo of the N samples.

        Returns:
            (N, classes, H, W) logits, bit for bit equal to the segmentor's under
            ``AdaptedEncoder.bypass``.
        """

        def run(crop: Tensor, window_metas: list[dict], share: float) -> Tensor:
            features = self.operator.forward_frozen(crop, self.head.reads)
            small = self.head.forward(features)
            del features
            corners = self.segmentor.decode_head.align_corners
            return resize_bilinear(small, _output_size(window_metas[0], crop), corners)

        return over_windows(self.segmentor, inputs, metas, run)

    def _entropy_gradient(
        self, small: Tensor, meta: dict, size, weigh: Weigh, share: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient by the head's logits, the weighted entropy, and ``confident_fraction``."""
        corners = self.segmentor.decode_head.align_corners
        logits = resize_bilinear(small, size, corners)
        if logits.untyped_storage().data_ptr() == small.untyped_storage().data_ptr():
            logits = logits.clone()
        inner = without_padding(logits, [meta])
        entropy = entropy_map(inner)
        weights = weigh(entropy, inner)
        fraction = (weights > 0).sum() / weights.numel()
        loss = (weights * entropy).sum()
        entropy_gradient_(inner, entropy, weights.mul_(share))
        region = frame_region(logits, meta)
        if region is not None:
            # Padding has no gradient.
            region.clear_outside_(logits)
        return resize_input_gradient(logits, small.shape, corners), loss, fraction


def _output_size(meta: dict, inputs: Tensor) -> tuple[int, int]:
    """The size that mmseg's decode head resizes its logits to (``predict_by_feat``)."""
    shape = meta['img_shape']
    if not isinstance(shape, torch.Size):
        shape = meta.get('pad_shape', shape)
    return tuple(shape[:2])


class GradientAccumulator:
    """A ``Deliver`` function that adds gradients to ``.grad``."""

    def __call__(self, parameter: nn.Parameter, gradient: Tensor, rows: Optional[slice]) -> None:
        """Adds a gradient to ``parameter.grad``.

        Args:
            parameter: The parameter.
            gradient: The gradient of the whole parameter, or of its ``rows``.
            rows: See ``Deliver``.
        """
        if rows is None or gradient.shape == parameter.shape:
            if parameter.grad is None:
                parameter.grad = gradient.view_as(parameter)
            else:
                parameter.grad += gradient
            return
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad[rows].add_(gradient)


def can_update_in_place(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``OptimizerInBackward`` supports the optimizer: SGD, with or without momentum."""
    return type(optimizer) is torch.optim.SGD and not any(
        group['nesterov'] or group['maximize'] or group['dampening'] or group['differentiable']
        for group in optimizer.param_groups
    )


class OptimizerInBackward:
    """A ``Deliver`` function that makes SGD's step at once, for one piece of a parameter at a time.

    The momenta are kept in the optimizer's state, so the optimizer itself can take later steps.

    Args:
        optimizer: An optimizer that ``can_update_in_place`` accepts.
    """

    def __init__(self, optimizer: torch.optim.SGD) -> None:
        self.optimizer = optimizer
        self.groups = {p: group for group in optimizer.param_groups for p in group['params']}

    def __call__(self, parameter: nn.Parameter, gradient: Tensor, rows: Optional[slice]) -> None:
        """Updates a parameter's ``rows`` as ``torch.optim.SGD`` does."""
        group = self.groups[parameter]
        piece = parameter.data if rows is None else parameter.data[rows]
        if group['weight_decay']:
            gradient = gradient.add(piece, alpha=group['weight_decay'])
        if group['momentum']:
            state = self.optimizer.state[parameter]
            if state.get('momentum_buffer') is None:
                # The first step's momentum is its gradient: 0 * momentum + gradient.
                state['momentum_buffer'] = torch.zeros_like(parameter)
            buffer = state['momentum_buffer']
            buffer = buffer if rows is None else buffer[rows]
            gradient = buffer.mul_(group['momentum']).add_(gradient)
        piece.add_(gradient, alpha=-float(group['lr']))
