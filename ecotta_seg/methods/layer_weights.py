"""LAW: scales each layer's learning rate by the layer's Fisher information on the stream."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn

from ..layers.fisher import pseudo_label_gradients
from .step_parts import StepPart

_EPSILON = 1e-8


def learning_weights(information: Tensor, exponent: float) -> Tensor:
    """The exponential min-max scaler (arXiv 2311.05858, Eq. 6): ((f - min) / (max - min)) ** τ.

    Args:
        information: (L,), at least 0: one number for each layer, in any unit.
        exponent: τ, above 0.

    Returns:
        (L,), 0 to 1: 0 for the layer with the least information, about 1 for that with the most.
    """
    low, high = information.min(), information.max()
    scale = information.new_tensor(_EPSILON) if high == 0 else _EPSILON * high
    return ((information - low) / (high - low + scale)).pow(exponent)


class LayerWeights(StepPart):
    """Weights the learning rates of the layers of a ``GradientAdaptation`` (LAW).

    Park et al., WACV 2024, arXiv 2311.05858. For each frame an extra backward pass gives the
    gradient of the negative log-likelihood of the classes that the model itself predicts. The
    squares of this gradient, summed over the stream, are the Fisher information (Eq. 3 and 4). For
    each layer, the square root of the mean information is scaled to 0 to 1 over the layers and
    raised to the power ``exponent``. The result multiplies the layer's learning rate (Eq. 6). A
    layer is a parameter tensor, as in the public code.

    Deviations: the loss is the method's own; the paper adds a consistency loss with an augmented
    view. One optimizer serves the whole stream; the public code makes a new Adam for each batch.
    The epsilon of the scaler is relative to the largest information, because a likelihood averaged
    over pixels has far smaller information than the likelihood of an image.

    Args:
        parameters: The layers. The optimizer must have one group for each, in this order.
        exponent: τ, above 0 (1 for ImageNet-C in the paper).

    Raises:
        ValueError: ``exponent`` is not above 0.

    Attributes:
        information: (L,) float64. For each layer, the squared gradient, averaged over the layer's
            elements and summed over frames.
        weights: (L,) float64, the weights of the latest step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], exponent: float) -> None:
        if not exponent > 0:
            raise ValueError(f'expected an exponent of layer_weights above 0, got {exponent}')
        self.parameters, self.exponent = list(parameters), exponent
        like = self.parameters[0]
        self.information = like.new_zeros(len(self.parameters), dtype=torch.float64)
        self.weights = torch.zeros_like(self.information)
        self.rates: Optional[list[float]] = None
        self._gradients: Optional[list[Tensor]] = None

    def to(self, device: torch.device) -> None:
        """See base class; the information and the weights stay float64."""
        self.information, self.weights = self.information.to(device), self.weights.to(device)

    def forget(self) -> None:
        """See base class."""
        self.information.zero_()
        self._gradients = None

    def begin_frame(self, method: Any) -> None:
        """See base class. Drops gradients that are left from a frame without an update."""
        self._gradients = None

    def state_dict(self) -> dict[str, Any]:
        """See base class. Holds the Fisher information of the layers."""
        return {'information': self.information.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See base class."""
        self.information.copy_(state['information'])

    def see(self, logits: Tensor, share: float) -> None:
        """Adds up the likelihood's gradient over the windows of a frame.

        Args:
            logits: (N, classes, h, w) with graph.
            share: Weight of the window.
        """
        gradients = pseudo_label_gradients(logits, self.parameters, share)
        if self._gradients is not None:
            gradients = [total + gradient for total, gradient in zip(self._gradients, gradients)]
        self._gradients = gradients

    @torch.no_grad()
    def weigh(self, optimizer: torch.optim.Optimizer) -> None:
        """Sets the learning rate of each layer for the next step.

        Raises:
            ValueError: The method has not called ``see`` before the step.
        """
        if self._gradients is None:
            raise ValueError(
                'layer_weights need a method whose forward calls `show(logits, share)` with the '
                'logits that it learns from, and this method does not: leave out layer_weights'
            )
        for index, gradient in enumerate(self._gradients):
            self.information[index] += gradient.square().mean()
        self._gradients = None
        self.weights = learning_weights(self.information.sqrt(), self.exponent)
        for group, rate, weight in zip(optimizer.param_groups, self.rates, self.weights.tolist()):
            group['lr'] = rate * weight
