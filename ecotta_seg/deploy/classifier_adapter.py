"""Adapters outside of a frozen network: a 1x1 convolution on the classifier's input, added to the
logits. They suit any network that returns its logits and the input of its classifier."""

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
    """Weights of a 1x1 convolution on the features, whose result is added to the logits.

    Attributes:
        weight: (classes, channels).
        bias: (classes,).
    """

    weight: Tensor
    bias: Tensor


def convolved(features: Tensor, residual: Residual) -> Tensor:
    """Applies the convolution: (1, channels, h, w) features to (1, classes, h, w)."""
    return F.conv2d(features, residual.weight[:, :, None, None], residual.bias)


class ClassifierAdapter(nn.Module):
    """Learns from features and logits of a frozen network; at first it changes no prediction.

    Args:
        weight: (classes, channels), the weights of the frozen classifier.

    Attributes:
        follows: Whether ``learn`` only updates statistics of the stream. If True, frames that are
            predicted without learning update them as well.
    """

    follows = False

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer('classifier', weight.detach().clone(), persistent=False)
        # No buffer is persistent, because a run checks the state dict to find changed weights.
        self.register_buffer('calibrated', weight.new_zeros(()), persistent=False)

    def tensors(self) -> dict[str, Tensor]:
        """The learned parameters and measured buffers by name; the tensors are not copies."""
        found = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: tensor for name, tensor in found.items() if name != 'classifier'}

    @abstractmethod
    def residual(self) -> Optional[Residual]:
        """The convolution that is added to the logits; None if nothing has been learned."""

    @abstractmethod
    def learn(self, features: Tensor, logits: Tensor) -> bool:
        """Learns from a frame.

        Args:
            features: (1, channels, h, w), the classifier's input.
            logits: (1, classes, h, w), the frozen network's logits in the size of the features.

        Returns:
            Whether the adapter has changed.
        """

    def calibrate(self, features: Sequence[Tensor]) -> None:
        """Measures the usual statistics of the features on clear frames.

        Args:
            features: For each clear frame, the features (1, channels, h, w).
        """
        self.calibrated.fill_(1.0)

    def reset(self) -> None:
        """Restores the state before the first frame; keeps the calibration."""

    def added(self, features: Tensor, logits: Tensor, align_corners: bool) -> Tensor:
        """Returns the adapted logits: the sum of ``logits`` and the resized convolution.

        Args:
            features: (1, channels, h, w).
            logits: (1, classes, H, W), the frozen network's logits.
            align_corners: Option of the bilinear interpolation, as in the network's decode head.

        Returns:
            (1, classes, H, W); ``logits`` itself if nothing has been learned.
        """
        residual = self.residual()
        if residual is None:
            return logits
        change, size = convolved(features, residual), logits.shape[2:]
        return logits + F.interpolate(change, size, mode='bilinear', align_corners=align_corners)


class FeatureAlignment(ClassifierAdapter):
    """Corrects mean and variance of the features to those of clear frames, in closed form (ours).

    The correction follows ``CalibratedBatchNorm2d``: it takes a moving average of the statistics
    over the stream, and corrects a channel only as far as its drift exceeds the usual drift. m and
    v are the blended mean and variance. The classifier W is linear, so the correction of the logits

        W ((x - m) s + m_clear) - W x,    s = sqrt(v_clear / v)

    is a 1x1 convolution again. Without a calibration the logits do not change.

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
        """See base class. Measures mean and variance over all frames, and a frame's usual drift."""
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
        """See base class. Adds the frame's statistics to the moving average."""
        if not self.calibrated:
            return False
        with following([self.norm]):
            self.norm.statistics(features)
        return True

    def reset(self) -> None:
        """See base class."""
        self.norm.forget()


class EntropyMinimisation(ClassifierAdapter):
    """Learns a residual of the classifier by SGD on the entropy of confident pixels.

    Tent (arXiv 2006.10726) does so with norms. Gradients pass through the residual alone.

    Features are divided by their standard deviation on clear frames. Without a calibration the
    standard deviation is that of the first frame.

    Args:
        weight: See base class.
        lr: Learning rate of plain SGD, above 0.
        entropy_threshold: Limit of a pixel's entropy as a multiple of ln C, above 0. Only pixels
            below the limit are in the loss.
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
            # A channel that hardly varies on clear frames would have an unbounded factor on others.
            self.std.copy_(std.clamp(min=0.1 * float(std.mean())))
            super().calibrate(features)

    def residual(self) -> Optional[Residual]:
        """See base class."""
        return self._residual() if self.learned else None

    def _residual(self) -> Residual:
        # Divided by the root of the number of channels, so that ``lr`` suits any number of
        # channels.
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
        weight: (classes, channels), the weights of the frozen classifier.
        **options: Options of the adapter's class.

    Raises:
        ValueError: The name or an option is unknown.
    """
    if name not in ADAPTERS:
        raise ValueError(f'expected an adapter from {sorted(ADAPTERS)}, got {name!r}')
    known = [option for option in constructor_options(ADAPTERS[name]) if option != 'weight']
    check_keys(f'the adapter {name!r}', options, known)
    return ADAPTERS[name](weight, **options)
