"""Adapters outside of a frozen network: a 1x1 convolution on the classifier's input, added to the
logits. Nothing enters the network, so that the network may be anything that gives both."""

from abc import abstractmethod
from collections.abc import Sequence
from math import log
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.calibrated_batch_norm import CalibratedBatchNorm2d, calibrating, following
from ..layers.losses import class_balanced_weights, weighted_entropy
from ..registry import check_keys, constructor_options


class Residual(NamedTuple):
    """What is added to the logits: a 1x1 convolution of the features.

    Attributes:
        weight: (classes, channels).
        bias: (classes,).
    """

    weight: Tensor
    bias: Tensor


def convolved(features: Tensor, residual: Residual) -> Tensor:
    """(1, channels, h, w) to (1, classes, h, w)."""
    return F.conv2d(features, residual.weight[:, :, None, None], residual.bias)


class ClassifierAdapter(nn.Module):
    """Learns from features and logits that a frozen network gives; starts with no change at all.

    Args:
        weight: (classes, channels) of the frozen classifier.

    Attributes:
        follows: Whether the adapter follows a stream, as statistics do, where nothing is learned.
    """

    follows = False

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer('classifier', weight.detach().clone(), persistent=False)
        # None is persistent: a run tells by the state dict whether somebody changed weights.
        self.register_buffer('calibrated', weight.new_zeros(()), persistent=False)

    def tensors(self) -> dict[str, Tensor]:
        """What is learned and measured, live, by name."""
        found = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: tensor for name, tensor in found.items() if name != 'classifier'}

    @abstractmethod
    def residual(self) -> Optional[Residual]:
        """What has been learned; None before the first frame."""

    @abstractmethod
    def learn(self, features: Tensor, logits: Tensor) -> bool:
        """Learns from a frame.

        Args:
            features: (1, channels, h, w), the classifier's input.
            logits: (1, classes, h, w), the frozen network's at that size.

        Returns:
            Whether something was changed.
        """

    def calibrate(self, features: Sequence[Tensor]) -> None:
        """Measures what is usual to the network.

        Args:
            features: (1, channels, h, w) of some clear frames.
        """
        self.calibrated.fill_(1.0)

    def reset(self) -> None:
        """Forgets the stream; the calibration stays."""

    def added(self, features: Tensor, logits: Tensor, align_corners: bool) -> Tensor:
        """The adapted logits.

        Args:
            features: (1, channels, h, w).
            logits: (1, classes, H, W), the frozen network's.
            align_corners: How the network resizes its logits.

        Returns:
            (1, classes, H, W); ``logits`` itself if nothing has been learned.
        """
        residual = self.residual()
        if residual is None:
            return logits
        change, size = convolved(features, residual), logits.shape[2:]
        return logits + F.interpolate(change, size, mode='bilinear', align_corners=align_corners)


class FeatureAlignment(ClassifierAdapter):
    """Brings the features' mean and variance back to what clear frames show (ours), in closed form.

    As ``CalibratedBatchNorm2d`` does inside of a network: a channel counts as drifted by what
    exceeds the usual drift, of a moving average over the stream. The classifier is linear, so that

        W ((x - m) s + m_clear) - W x,    s = sqrt(v_clear / v)

    is a 1x1 convolution again. Without a calibration nothing is changed.

    Args:
        weight: See base class.
        drift_weight, tolerance, momentum: See ``CalibratedBatchNorm2d``.
    """

    follows = True

    def __init__(
        self,
        weight: Tensor,
        drift_weight: float = 40.0,
        tolerance: float = 3.0,
        momentum: float = 0.75,
    ) -> None:
        super().__init__(weight)
        source = nn.BatchNorm2d(weight.shape[1], affine=False)
        self.norm = CalibratedBatchNorm2d(source, drift_weight, tolerance, momentum)
        for name, buffer in list(self.norm.named_buffers()):
            self.norm.register_buffer(name, buffer, persistent=False)

    @torch.no_grad()
    def calibrate(self, features: Sequence[Tensor]) -> None:
        """See base class: mean and variance over all frames, and the usual drift of one frame."""
        if not features:
            return
        means = torch.stack([x.mean((0, 2, 3)) for x in features])
        squares = torch.stack([x.square().mean((0, 2, 3)) for x in features])
        mean = means.mean(0)
        self.norm.running_mean.copy_(mean)
        self.norm.running_var.copy_((squares.mean(0) - mean.square()).clamp(min=0))
        with calibrating([self.norm]):
            for x in features:
                self.norm.statistics(x)
        super().calibrate(features)

    @torch.no_grad()
    def residual(self) -> Optional[Residual]:
        """See base class."""
        norm = self.norm
        if not self.calibrated or not norm.followed:
            return None
        clear_mean, clear_var = norm.running_mean, norm.running_var
        stream = norm.stream_mean, norm.stream_var
        mean, var = norm.blended(*stream, norm.drift(*stream))
        scale = torch.sqrt((clear_var + norm.eps) / (var + norm.eps))
        return Residual(
            self.classifier * (scale - 1), self.classifier @ (clear_mean - mean * scale)
        )

    def learn(self, features: Tensor, logits: Tensor) -> bool:
        """See base class: the frame goes into the moving average."""
        if not self.calibrated:
            return False
        with following([self.norm]):
            self.norm.statistics(features)
        return True

    def reset(self) -> None:
        """See base class."""
        self.norm.forget()


class EntropyMinimisation(ClassifierAdapter):
    """A residual of the classifier that makes sure pixels surer, by SGD (as Tent, arXiv 2006.10726,
    does with norms). Autograd runs through the residual alone.

    Features count in units of their standard deviation, which clear frames tell; without a
    calibration the first frame tells the unit.

    Args:
        weight: See base class.
        lr: Of plain SGD, above 0.
        entropy_threshold: Pixels below this share of ln C are learned from, above 0.
        class_balance: Exponent of the class weights, 0 to 1, see ``EcoTTAPlus``.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        weight: Tensor,
        lr: float = 0.1,
        entropy_threshold: float = 0.4,
        class_balance: float = 0.5,
    ) -> None:
        super().__init__(weight)
        if not lr > 0 or not entropy_threshold > 0 or not 0 <= class_balance <= 1:
            raise ValueError(
                'expected lr and entropy_threshold above 0 and class_balance from 0 to 1, got '
                f'{lr}, {entropy_threshold} and {class_balance}'
            )
        classes, channels = weight.shape
        self.lr, self.class_balance = lr, class_balance
        self.threshold = entropy_threshold * log(max(2, classes))
        self.weight = nn.Parameter(weight.new_zeros(classes, channels))
        self.bias = nn.Parameter(weight.new_zeros(classes))
        self.register_buffer('mean', weight.new_zeros(channels), persistent=False)
        self.register_buffer('std', weight.new_ones(channels), persistent=False)
        self.register_buffer('learned', weight.new_zeros(()), persistent=False)

    @torch.no_grad()
    def calibrate(self, features: Sequence[Tensor]) -> None:
        """See base class."""
        if features:
            values = torch.cat([x.flatten(2)[0] for x in features], 1)
            self.mean.copy_(values.mean(1))
            std = values.std(1)
            # A channel that clear frames leave alone would count without bound elsewhere.
            self.std.copy_(std.clamp(min=0.1 * float(std.mean())))
            super().calibrate(features)

    def residual(self) -> Optional[Residual]:
        """See base class."""
        return self._residual() if self.learned else None

    def _residual(self) -> Residual:
        # The root of their number keeps the rate independent of the number of channels.
        weight = self.weight / (self.std * len(self.std) ** 0.5)
        return Residual(weight, self.bias - weight @ self.mean)

    def learn(self, features: Tensor, logits: Tensor) -> bool:
        """See base class."""
        if not self.calibrated:
            self.calibrate([features])
        with torch.enable_grad():
            adapted = logits + convolved(features, self._residual())
            loss, _ = weighted_entropy(adapted, self._pixel_weights)
        if not loss.requires_grad:
            return False
        gradients = torch.autograd.grad(loss, (self.weight, self.bias))
        with torch.no_grad():
            for parameter, gradient in zip((self.weight, self.bias), gradients):
                parameter.sub_(self.lr * gradient)
        self.learned.fill_(1.0)
        return True

    def _pixel_weights(self, entropy: Tensor, logits: Tensor) -> Tensor:
        return class_balanced_weights(entropy, logits, self.threshold, self.class_balance)

    @torch.no_grad()
    def reset(self) -> None:
        """See base class."""
        for tensor in (self.weight, self.bias, self.learned):
            tensor.zero_()


ADAPTERS = {'statistics': FeatureAlignment, 'entropy': EntropyMinimisation}


def build_adapter(name: str, weight: Tensor, **options) -> ClassifierAdapter:
    """Builds an adapter by name.

    Args:
        name: 'statistics' for ``FeatureAlignment``, 'entropy' for ``EntropyMinimisation``.
        weight: (classes, channels).
        **options: Of the class.

    Raises:
        ValueError: The name or an option is unknown.
    """
    if name not in ADAPTERS:
        raise ValueError(f'expected an adapter from {sorted(ADAPTERS)}, got {name!r}')
    known = [option for option in constructor_options(ADAPTERS[name]) if option != 'weight']
    check_keys(f'the adapter {name!r}', options, known)
    return ADAPTERS[name](weight, **options)
