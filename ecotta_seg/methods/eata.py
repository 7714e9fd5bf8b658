"""EATA: entropy of reliable, non-redundant pixels, with a Fisher regulariser."""

from collections.abc import Iterable
from math import log
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inference.windows import forward_windows
from ..layers.fisher import pseudo_label_gradients, read_fisher
from ..layers.losses import pixel_entropy
from ..layers.norm_parameters import release_norm_parameters
from ..registry import ADAPTATION_METHODS
from .gradient_adaptation import GradientAdaptation

_MOMENTUM = 0.9  # momentum of the mean prediction, as in the public code


@ADAPTATION_METHODS.register_module(name='eata')
class EATA(GradientAdaptation):
    """Efficient anti-forgetting test-time adaptation (Niu et al., ICML 2022, arXiv 2204.02610).

    The method trains scale and shift of all norms (see ``release_norm_parameters``):

    - A pixel is *reliable* if its entropy H is below E0 (Eq. 3). A pixel is *non-redundant* if the
      absolute cosine between its class probabilities and their moving average over the learned
      pixels is below ``redundancy_threshold`` (Eq. 5). The loss is the mean of exp(E0 - H) H over
      pixels that are both (Eq. 2 and 6).
    - ``fisher_weight`` * Σ F (θ - θ_source)² keeps important parameters near the source (Eq. 8).

    Deviations: the filters work on pixels, as in ports to segmentation, because the paper's images
    have one class each. The moving average over the learned pixels changes once per frame. The
    paper takes F from unlabelled frames of the source domain: pass a file of F as ``fisher`` (see
    ``fisher_information`` and ``write_fisher``). Without a file, F is the mean over the first
    ``fisher_frames`` frames of the stream, measured during adaptation without source data; each of
    these frames costs one extra backward. If no pixel passes the filters, there is no step.
    ``fisher_weight=0`` gives the method ETA.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
        entropy_threshold: E0 as a multiple of ln C (0.4 in the paper).
        redundancy_threshold: 0 to 1 (0.05 for 1000 classes, 0.4 for 10 in the paper).
        fisher_weight: At least 0 (2000 for ImageNet, 1 for CIFAR-10 in the paper).
        fisher_frames: Number of frames of the stream for F, from 0.
        fisher: File of Fisher information; None to measure it on the stream.

    Raises:
        ValueError: An option is out of range, or the file is missing or does not fit.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        entropy_threshold: float = 0.4,
        redundancy_threshold: float = 0.4,
        fisher_weight: float = 2000.0,
        fisher_frames: int = 20,
        fisher: Optional[str] = None,
    ) -> None:
        if entropy_threshold <= 0 or min(redundancy_threshold, fisher_weight, fisher_frames) < 0:
            raise ValueError(
                'expected entropy_threshold above 0 and redundancy_threshold, fisher_weight and '
                f'fisher_frames from 0, got {entropy_threshold}, {redundancy_threshold}, '
                f'{fisher_weight} and {fisher_frames}'
            )
        super().__init__(segmentor, optimizer)
        release_norm_parameters(segmentor)
        self.entropy_threshold = entropy_threshold * log(segmentor.out_channels)
        self.redundancy_threshold = redundancy_threshold
        self.fisher_weight = fisher_weight
        # Zeros until the first learned pixels; until then no pixel is redundant.
        zeros = next(segmentor.parameters()).new_zeros(segmentor.out_channels)
        self.register_buffer('mean_prediction', zeros)
        self.register_buffer('fisher_frames_seen', zeros.new_zeros((), dtype=torch.int64))
        self.start()
        self._given = fisher is not None
        self.fisher_frames = 0 if self._given or fisher_weight == 0 else fisher_frames
        parameters = self.adaptable_parameters()
        if self._given:
            # The sum of the Fisher information over frames; a file counts as one frame.
            self._fisher = read_fisher(fisher, parameters)
            self.fisher_frames_seen += 1
        else:
            self._fisher = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class."""
        self._gradients: Optional[list[Tensor]] = None
        self._passed = torch.zeros_like(self.mean_prediction)
        self._count = self._pixels = 0
        self.last_step.loss, self.last_step.entropy = 0.0, 0.0
        return super().propose(inputs, metas)

    def discard(self) -> None:
        """See base class."""
        super().discard()
        self._passed = self._gradients = None

    def passing(self, probabilities: Tensor, entropy: Tensor) -> Tensor:
        """Which pixels are reliable and not redundant: (N, H, W) bool.

        Args:
            probabilities: (N, C, H, W), no gradient.
            entropy: (N, H, W) in nats, no gradient.
        """
        reliable = entropy < self.entropy_threshold
        mean = self.mean_prediction.view(1, -1, 1, 1)
        return reliable & (
            F.cosine_similarity(probabilities, mean, dim=1).abs() < self.redundancy_threshold
            if bool(mean.any())
            else True
        )

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class."""
        if int(self.fisher_frames_seen) < self.fisher_frames:
            self._add_fisher(logits, share)
        entropy = pixel_entropy(logits)
        probabilities = logits.detach().softmax(dim=1)
        passing = self.passing(probabilities, entropy.detach())
        count = int(passing.sum())
        self._count, self._pixels = self._count + count, self._pixels + passing.numel()
        self.last_step.confident_fraction = self._count / self._pixels
        if count == 0:
            return
        self._passed += (probabilities * passing.unsqueeze(1)).sum(dim=(0, 2, 3))
        weight = (self.entropy_threshold - entropy.detach()).exp()
        weight = torch.where(passing, weight, weight.new_zeros(()))
        loss = share * (weight * entropy).sum() / count
        loss.backward()
        self.last_step.loss += float(loss.detach())
        mean = torch.where(passing, entropy.detach(), 0).sum() / count
        self.last_step.entropy += share * float(mean)

    def _add_fisher(self, logits: Tensor, share: float) -> None:
        parameters = list(self.adaptable_parameters().values())
        gradients = pseudo_label_gradients(logits, parameters, share)
        if self._gradients is not None:
            gradients = [total + gradient for total, gradient in zip(self._gradients, gradients)]
        self._gradients = gradients

    @torch.no_grad()
    def update(self) -> None:
        """See base class. Also adds the regulariser's gradient and updates the moving average."""
        if self._gradients is not None:
            for total, gradient in zip(self._fisher.values(), self._gradients):
                total += gradient.square()
            self.fisher_frames_seen += 1
            self._gradients = None
        if self._count and self.fisher_weight and int(self.fisher_frames_seen):
            self._regularise()
        super().update()
        if self._count:
            new = self._passed / self._count
            # If the average is all zeros, there is no earlier value yet.
            started = bool(self.mean_prediction.any())
            self.mean_prediction.lerp_(new, 1 - _MOMENTUM if started else 1.0)

    def _regularise(self) -> None:
        """Adds the gradient of the regulariser, 2 * weight * F (θ - θ_source)."""
        frames, total = int(self.fisher_frames_seen), 0.0
        for name, parameter in self.adaptable_parameters().items():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            away = parameter - self._initial[name]
            pull = self._fisher[name] / frames * away
            parameter.grad += 2 * self.fisher_weight * pull
            total += float((pull * away).sum())
        self.last_step.regularisation = total
        self.last_step.loss += self.fisher_weight * total

    def fisher_information(self, frames: Iterable[tuple[Tensor, list[dict]]]) -> dict[str, Tensor]:
        """Measures the mean Fisher information of the parameters over frames; learns nothing.

        Args:
            frames: Pairs (inputs, metas) as for ``propose``, preferably from the source domain.

        Returns:
            A tensor for each adaptable parameter, by name, for ``write_fisher``.

        Raises:
            ValueError: There are no frames.
        """
        parameters = self.adaptable_parameters()
        totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
        count = 0
        for inputs, metas in frames:
            self._gradients = None
            with torch.enable_grad():
                forward_windows(self.segmentor, inputs, metas, self._add_fisher)
            for total, gradient in zip(totals.values(), self._gradients):
                total += gradient.square()
            count += 1
        self._gradients = None
        if not count:
            raise ValueError('expected at least one frame to take the Fisher information of')
        return {name: total / count for name, total in totals.items()}

    def learned_beside(self) -> dict[str, dict[str, Tensor]]:
        """See base class. This is the Fisher information."""
        return {'fisher': self._fisher}

    @torch.no_grad()
    def reset(self) -> None:
        """See base class; also clears the averages over the stream."""
        super().reset()
        self.mean_prediction.zero_()
        if not self._given:
            self.fisher_frames_seen.zero_()
            for tensor in self._fisher.values():
                tensor.zero_()
