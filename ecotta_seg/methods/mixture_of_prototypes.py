"""Mixture of Prototypes: experts of class prototypes, mixed by a gating network that learns.

This file follows the abstract of Li, Zhu and Ge, CVPR 2026, "Mixture of Prototypes for Test-time
Adaptive Segmentation". The docstring of the class lists the details that the abstract leaves open,
and the differences.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers.classifier import CLASSIFIER, find_classifier, last_head
from ..layers.losses import pixel_entropy
from ..layers.prototype_experts import PrototypeExperts
from ..registry import ADAPTATION_METHODS
from .gradient_adaptation import GradientAdaptation


@ADAPTATION_METHODS.register_module(name='mixture_of_prototypes')
class MixtureOfPrototypes(GradientAdaptation):
    """Mixture of Prototypes (Li, Zhu and Ge, CVPR 2026), as far as its abstract says.

    From the abstract: class-wise means of source features are prototypes; clusters of the
    prototypes are experts, several for each class; a gating network weighs the experts for each
    pixel by the correlation of pixel and expert; the gating network alone learns, and minimises the
    entropy of the prediction and maximises the entropy of the selection of experts.

    Open in the abstract, and chosen here:

    - The features are the input of the classifier, the correlation is the cosine.
    - The gating network is a 1x1 convolution on the cosines to all prototypes, and a softmax over
      the experts. It starts with equal weights.
    - The loss of a frame is the mean entropy over its pixels, minus ``selection_weight`` times the
      entropy of the mean selection over its pixels.
    - The prediction is the weighted mean of the classifier's probabilities, with the weight
      ``source_share``, and the experts' probabilities. So the method starts and stays near the
      source. With ``source_share=0`` the experts alone predict.

    Deviations: the prototypes come from a calibration on clear frames without labels before the
    stream, and not from the training of the source. So a prototype is the mean feature of the
    pixels that the source assigns to a class, one for each clear frame and class. If the source
    predicts a class in no clear frame, the class keeps the classifier's probability. No gradient
    passes through the segmentor, because the gating network comes after its last layer.

    Args:
        segmentor: The source model. Its last head has a 1x1 convolution ``conv_seg``.
        optimizer: A config of a torch optimizer.
        experts: Number of experts, from 1.
        temperature: Temperature of the softmax over the cosines to an expert's prototypes, above 0.
        source_share: 0 to below 1.
        selection_weight: Weight of the entropy of the mean selection, from 0.

    Raises:
        ValueError: An option is out of range, or the head has no such classifier.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        experts: int = 4,
        temperature: float = 0.1,
        source_share: float = 0.5,
        selection_weight: float = 1.0,
    ) -> None:
        if experts < 1 or temperature <= 0 or not 0 <= source_share < 1 or selection_weight < 0:
            raise ValueError(
                'expected experts from 1, temperature above 0, source_share from 0 to below 1 and '
                f'selection_weight from 0, got {experts}, {temperature}, {source_share} and '
                f'{selection_weight}'
            )
        super().__init__(segmentor, optimizer)
        classifier = find_classifier(segmentor)
        if classifier is None or not _is_plain(classifier):
            raise ValueError(
                f'expected a decode head whose classifier is a 1x1 convolution {CLASSIFIER}, but '
                f'{type(last_head(segmentor)).__name__} has none: choose another method'
            )
        segmentor.requires_grad_(False)
        layer = PrototypeExperts(classifier, experts, temperature, source_share)
        setattr(last_head(segmentor), CLASSIFIER, layer.train(classifier.training))
        self.selection_weight = selection_weight
        self.start()

    @property
    def experts(self) -> PrototypeExperts:
        """The layer that replaces the classifier."""
        return find_classifier(self.segmentor)

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """See base class. These are the parameters of the gating network."""
        return self.adaptable_parameters()

    @property
    def uses_clear_frames(self) -> bool:
        """See base class."""
        return True

    @property
    def requires_clear_frames(self) -> bool:
        """See base class."""
        return True

    @torch.no_grad()
    def calibrate(self, frames: Sequence[tuple[Tensor, list[dict]]]) -> None:
        """See base class. Computes the prototypes of the experts.

        Raises:
            ValueError: There are no frames, or the head does not run its classifier.
        """
        if not frames:
            raise _no_prototypes()
        sums = []
        for inputs, metas in frames:
            with self.experts.collecting() as found:
                self.predict(inputs, metas)
            if not found.is_meta and not found[:, -1].any():
                raise ValueError(
                    f'expected a decode head that runs its classifier {CLASSIFIER}, but '
                    f'{type(last_head(self.segmentor)).__name__} does not: choose another method'
                )
            sums.append(found)
        self.experts.take(sums)
        super().calibrate(frames)

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class.

        Raises:
            ValueError: The method has no prototypes.
        """
        known = self.experts.known
        # A dry run has no values.
        if not known.is_meta and not known.any():
            raise _no_prototypes()
        record = self.last_step
        record.loss, record.entropy, record.confident_fraction = 0.0, 0.0, 1.0
        return super().propose(inputs, metas)

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. The loss is the min-max entropy of the abstract."""
        entropy = pixel_entropy(logits).mean()
        selection = self.experts.selection()
        least = torch.finfo(selection.dtype).tiny
        diversity = -(selection * selection.clamp(min=least).log()).sum()
        loss = share * (entropy - self.selection_weight * diversity)
        loss.backward()
        self.last_step.loss += float(loss.detach())
        self.last_step.entropy += share * float(entropy.detach())

    def discard(self) -> None:
        """See base class."""
        super().discard()
        self.experts.correlations = None


def _is_plain(classifier: nn.Conv2d) -> bool:
    """Whether a convolution maps each pixel by itself, with all channels."""
    of_pixels = max(classifier.kernel_size) == max(classifier.stride) == classifier.groups == 1
    return of_pixels and classifier.padding in (0, (0, 0))


def _no_prototypes() -> ValueError:
    return ValueError(
        'expected clear frames, from which mixture_of_prototypes takes its prototypes, but there '
        'are none: --calibrate DIR (calibrate=DIR in Python) names a folder with a dozen pictures '
        'of clear weather'
    )
