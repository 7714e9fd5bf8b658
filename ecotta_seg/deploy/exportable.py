"""Checks whether a method predicts by a single forward pass, and selects its weights."""

from contextlib import AbstractContextManager, nullcontext
from typing import Optional

from torch import nn

from ..inference.windows import slides
from ..layers.classifier import find_classifier, last_head
from ..layers.prototype_experts import PrototypeExperts
from ..meta_networks import MetaNetwork
from ..methods import AdaptationMethod
from ..methods.cotta import CoTTA
from ..methods.gradient_adaptation import GradientAdaptation


def check_exportable(method: AdaptationMethod, strength: Optional[float]) -> None:
    """Refuses a method whose prediction is not a single forward pass.

    Args:
        method: The method.
        strength: See ``PlainNetwork``.

    Raises:
        ValueError: The model predicts in sliding windows, the method averages over views or does
            not predict by one forward pass, or a strength is given but the method has no meta
            networks with an identity start.
    """
    if slides(method.segmentor):
        raise ValueError(
            'expected a model that predicts a frame at once, but its test_cfg has sliding windows, '
            'which are a loop around the network: export it with --cfg-options '
            'model.test_cfg.mode=whole, and put windows around the exported file'
        )
    if isinstance(method, CoTTA) and method.label_views > 1:
        raise ValueError(
            f"CoTTA's prediction is an average over {method.label_views} views, which is not a "
            'single forward: export its teacher with --cfg-options adaptation.views=1'
        )
    if method.beyond_one_forward is not None:
        raise ValueError(
            'expected a prediction by one forward with fixed weights, but the prediction of '
            f'{type(method).__name__} has {method.beyond_one_forward}: export another method'
        )
    if method.views > 1:
        raise ValueError(
            f'expected a prediction from one view, but the config asks for {method.views}, which '
            'is not a single forward: leave `views` out'
        )
    if strength is None:
        return
    if not 0 <= strength <= 1:
        raise ValueError(f'expected a strength from 0 to 1, got {strength}')
    networks = [module for module in method.segmentor.modules() if isinstance(module, MetaNetwork)]
    if not networks or any(network.start != 'identity' for network in networks):
        raise ValueError(
            "a strength needs meta networks with an identity start (start='identity'), but the "
            f'method {type(method).__name__} has none here: leave out --strength'
        )


def weights_of_prediction(method: AdaptationMethod) -> AbstractContextManager:
    """Context manager in which the segmentor has the weights with which the method predicts."""
    if isinstance(method, GradientAdaptation) and 'teacher' in method.learned_beside():
        return method.using(method.learned_beside()['teacher'])
    return nullcontext()


def classifier_of(segmentor: nn.Module) -> nn.Conv2d:
    """The last convolution of a decode head, which gives the logits.

    Raises:
        ValueError: The head has no convolution ``conv_seg``, or its logits are not a convolution of
            the features.
    """
    classifier = find_classifier(segmentor)
    if isinstance(classifier, PrototypeExperts):
        raise ValueError(
            'expected a classifier whose logits are a convolution of the features, but '
            'mixture_of_prototypes mixes them with prototypes: leave out --features'
        )
    if classifier is None:
        raise ValueError(
            'expected a decode head whose classifier is a convolution `conv_seg`, but a '
            f'{type(last_head(segmentor)).__name__} has none: leave out --features'
        )
    return classifier
