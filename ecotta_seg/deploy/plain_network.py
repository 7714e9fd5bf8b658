"""The network with which a method predicts the next frame, as ordinary operations."""

from contextlib import nullcontext
from copy import deepcopy
from typing import Any, Optional

import torch
from torch import Tensor, nn

from ..layers.adaptive_batch_norm import AdaptiveBatchNorm2d
from ..layers.exposure import is_target
from ..memory.frozen_graph.fast_conv import FastConv2d
from ..meta_networks import MetaEncoder, MetaNetwork
from ..meta_networks.norms import FrameBatchNorm2d
from ..methods import AdaptationMethod
from ..methods.ecotta_plus import TARGET, EcoTTAPlus
from .ahead_of_frame import PlainGate, PlainInput
from .exportable import check_exportable, classifier_of, weights_of_prediction
from .folding import fold_norms
from .plain_attention import PlainAttention, is_plain
from .plain_meta_network import LeftOut, PlainMetaNetwork, changes_nothing
from .plain_norm import FrameStatistics, plain_norm
from .shared_frame import SharedFrame

# The names of modules that stay in float32 have this ending.
IN_FLOAT32 = '_in_float32'


class PlainNetwork(nn.Module):
    """Computes logits from a camera frame; it needs no data preprocessor and no method.

    The logits equal those of ``method.predict_frame(method.prepare(...))`` for a frame without
    padding.

    Args:
        method: The adapted method. Its segmentor is copied; the method is not changed.
        sample: A frame for ``forward``, (1, C, H, W), 0 to 255. The network runs on this frame to
            find which norm follows which convolution.
        strength: A fixed strength of all meta networks, 0 to 1, which replaces the shift gate. None
            keeps the gate in the network.
        features: Whether ``forward`` also returns the classifier's input.
        fold: Whether norms are folded into convolutions.

    Attributes:
        folded: Number of norms that are folded into convolutions.
        by_frame: Number of norms that measure the statistics of the frame.
        left_out: Number of meta networks that are left out because they change nothing.
        kept: Number of meta networks in the network.
        gate_in_float32: The ``PlainGate``; None if the strength is the same for all frames.

    Raises:
        ValueError: See ``check_exportable`` and ``classifier_of``.
    """

    def __init__(
        self,
        method: AdaptationMethod,
        sample: Tensor,
        strength: Optional[float] = None,
        features: bool = False,
        fold: bool = True,
    ) -> None:
        super().__init__()
        check_exportable(method, strength)
        copies: dict[int, Any] = {}
        with weights_of_prediction(method):
            self.segmentor = deepcopy(method.segmentor, copies).eval().requires_grad_(False)
        self.shared, self.half_precision = SharedFrame(), False
        plus = method if isinstance(method, EcoTTAPlus) else None
        for norm, weight in () if plus is None else plus.gated_norms:
            # The norm's own weight still depends on the strength of the last frame.
            copies[id(norm)].blend_weight = weight
        gate = None if plus is None else plus.shift_gate
        target = 0.0 if plus is None or plus.exposure is None else float(plus.usual_values[TARGET])
        target = target if is_target(target) else None
        self.input_in_float32 = PlainInput(self.segmentor.data_preprocessor, target)
        self._one_value = self._single_values(sample)
        probed = plus.probe_norms if gate is not None else ()
        self._listened = {id(copies[id(norm)]) for norm in probed}
        self._gated = gate is not None
        self._fixed = strength if strength is not None or gate is not None else 1.0
        self._replace(self.segmentor)
        backbone = getattr(self.segmentor, 'backbone', None)
        self.encoder = backbone if isinstance(backbone, MetaEncoder) else None
        modules = list(self.modules())
        norms = [module for module in modules if isinstance(module, FrameStatistics)]
        self.by_frame = len(norms)
        self.kept = sum(isinstance(module, PlainMetaNetwork) for module in modules)
        self.left_out = sum(isinstance(module, LeftOut) for module in modules)
        self.gate_in_float32: Optional[PlainGate] = None
        if strength is not None:
            self.shared.strength = sample.new_tensor(float(strength))
        elif gate is not None and (self.kept or any(norm.gated for norm in norms)):
            self.gate_in_float32 = PlainGate(plus, self.segmentor.out_channels, sample)
        self.classifier = classifier_of(self.segmentor) if features else None
        self.folded = fold_norms(self, sample) if fold else 0

    def forward(self, frame: Tensor):
        """Predicts a frame.

        Args:
            frame: (1, C, H, W) float32, 0 to 255, its channels in the order that the config's data
                preprocessor takes (BGR in mmseg).

        Returns:
            Logits (1, classes, H, W) in float32. With ``features``, a pair: these logits and the
            classifier's input (1, channels, h, w).
        """
        image = self.input_in_float32(frame)
        if self.half_precision:
            image = image.half()
        if self.gate_in_float32 is not None:
            self.shared.strength = self._strength(image)
        if self.classifier is None:
            return _wide(self._logits(image))
        seen: list[Tensor] = []
        hook = self.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self._logits(image)
        finally:
            hook.remove()
        return _wide(logits), _wide(seen[-1])

    def to_half_precision(self) -> 'PlainNetwork':
        """Converts weights and maps to half precision, but not statistics, input and outputs."""
        wide = [module for name, module in self.named_modules() if name.endswith(IN_FLOAT32)]
        self.half()
        for module in wide:
            module.float()
        self.half_precision = True
        return self

    def _strength(self, image: Tensor) -> Tensor:
        """Computes the strength for a frame with a forward pass of the frozen model."""
        probe = self.gate_in_float32.probe(image)
        self.shared.strength, self.shared.drifts = image.new_zeros(()), []
        with nullcontext() if self.encoder is None else self.encoder.bypass():
            logits = self._logits(probe)
        drift, self.shared.drifts = self.shared.mean_drift(), None
        return self.gate_in_float32(_wide(logits), drift)

    def _logits(self, image: Tensor) -> Tensor:
        # mmseg's heads resize the logits to this torch.Size.
        meta = dict(img_shape=image.shape[2:], pad_shape=image.shape[2:], padding_size=[0] * 4)
        return self.segmentor.encode_decode(image, [meta])

    @torch.no_grad()
    def _single_values(self, sample: Tensor) -> dict[int, bool]:
        """For each norm, whether its map has one value per channel, as ASPP's image pool has."""
        found: dict[int, bool] = {}

        def see(norm: nn.Module, inputs: tuple) -> None:
            found[id(norm)] = inputs[0].shape[2:].numel() == 1

        kinds = (AdaptiveBatchNorm2d, FrameBatchNorm2d)
        norms = [module for module in self.segmentor.modules() if isinstance(module, kinds)]
        hooks = [norm.register_forward_pre_hook(see) for norm in norms]
        self._logits(self.input_in_float32(sample))
        for hook in hooks:
            hook.remove()
        return found

    def _replace(self, module: nn.Module) -> None:
        """Replaces the modules of the adaptation below a module by plain ones."""
        for name, child in module.named_children():
            new = self._plain(child)
            if new is None:
                self._replace(child)
            else:
                setattr(module, name, new.eval().requires_grad_(False))

    def _plain(self, module: nn.Module) -> Optional[nn.Module]:
        """The module that replaces a module; None if it is not replaced."""
        if isinstance(module, MetaNetwork):
            if changes_nothing(module, self._fixed):
                plain = LeftOut()
            else:
                plain = PlainMetaNetwork(module, self.shared, self._plain_norm, self._fixed)
            # The module that merges the inputs of a ladder's rung needs no replacement.
            plain.confidence = getattr(module, 'confidence', None)
            return plain
        if is_plain(module):
            return PlainAttention(module)
        if isinstance(module, FastConv2d):
            plain = nn.Conv2d(
                module.in_channels, module.out_channels, module.kernel_size, module.stride,
                module.padding, module.dilation, module.groups, module.bias is not None,
            )  # fmt: skip
            plain.load_state_dict(module.state_dict())
            return plain
        norm = self._plain_norm(module)
        return None if norm is module else norm

    def _plain_norm(self, norm: nn.Module) -> nn.Module:
        one_value = self._one_value.get(id(norm), False)
        listened = id(norm) in self._listened
        new = plain_norm(norm, self.shared, one_value, listened, self._gated)
        return norm if new is None else new


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.float16 else x
