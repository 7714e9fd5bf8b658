"""ROID: weighted soft likelihood ratio, consistency, an average with the source, prior correction.

Taken from Marsden, Döbler and Yang, WACV 2024 (arXiv 2306.00650), and their public code: the
certainty and diversity weights (Section 3.2), the soft likelihood ratio and the symmetric
cross-entropy (3.3), weight ensembling (3.1) and the adaptive prior correction (3.4). The docstring
of the class lists the differences.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inference.padding import without_padding
from ..inference.photometric import photometric_view
from ..inference.windows import forward_windows
from ..layers.losses import pixel_entropy, symmetric_cross_entropy
from ..layers.norm_parameters import release_norm_parameters
from ..registry import ADAPTATION_METHODS
from .gradient_adaptation import GradientAdaptation

# Constants of the soft likelihood ratio, from the public code.
_CLIP, _EPSILON = 0.99, 1e-5


@ADAPTATION_METHODS.register_module(name='roid')
class ROID(GradientAdaptation):
    """Universal test-time adaptation (Marsden et al., WACV 2024, arXiv 2306.00650).

    Scale and shift of all norms learn (see ``release_norm_parameters``). For each frame:

    - The loss of a pixel is the soft likelihood ratio −Σ p ln(p / (1 − p)) of its probabilities,
      and the symmetric cross-entropy between the frame and a view of it with other colours.
    - The weight of a pixel is exp(d c / ``temperature``). d is 1 minus the cosine between the
      pixel's probabilities and their moving average over the stream. c is the negative entropy.
      Both are scaled to 0 to 1 over the frame. A pixel with d below the mean of d has weight 0.
    - After the step the parameters are ``source_momentum`` * learned + (1 - ``source_momentum``) *
      source.
    - The predicted probabilities are multiplied by the prior: the smoothed mean of the frame's
      probabilities.

    Deviations: pixels replace images, and a sliding window of the frame replaces the batch. The
    view changes only colours, see ``photometric_view``. The loss has gradients through both views,
    as published. The gradients of the two views are computed one after the other, so that only the
    activations of one view exist at a time. This takes a third forward pass, without a graph. The
    prior multiplies probabilities, as in the paper; the public code multiplies logits.

    Args:
        segmentor: The source model.
        optimizer: A config of a torch optimizer.
        source_momentum: 0 to 1 (0.99 in the paper).
        prediction_momentum: Momentum of the moving average, 0 to 1 (0.9 in the public code).
        temperature: Above 0 (1/3 in the paper).
        consistency: Whether the loss has the symmetric cross-entropy.
        prior_correction: Whether the prediction is multiplied by the prior.
        seed: Seed of the views.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        segmentor: nn.Module,
        optimizer: dict,
        source_momentum: float = 0.99,
        prediction_momentum: float = 0.9,
        temperature: float = 1 / 3,
        consistency: bool = True,
        prior_correction: bool = True,
        seed: int = 0,
    ) -> None:
        momenta = (source_momentum, prediction_momentum)
        if not all(0 <= momentum <= 1 for momentum in momenta) or temperature <= 0:
            raise ValueError(
                'expected source_momentum and prediction_momentum from 0 to 1 and temperature '
                f'above 0, got {source_momentum}, {prediction_momentum} and {temperature}'
            )
        super().__init__(segmentor, optimizer)
        release_norm_parameters(segmentor)
        self.source_momentum, self.prediction_momentum = momenta
        self.temperature, self.seed = temperature, seed
        self.consistency, self.prior_correction = consistency, prior_correction
        if prior_correction:
            self.beyond_one_forward = 'a prior of each frame (prior_correction=False has none)'
        classes = segmentor.out_channels
        one = next(segmentor.parameters()).new_ones(())
        self.register_buffer('mean_prediction', one.expand(classes) / classes)
        # The number of updates; with the seed it chooses the colours of the next view.
        self.register_buffer('updates', torch.zeros_like(one, dtype=torch.int64))
        self.start()

    @torch.no_grad()
    def predict(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. Applies the prior correction."""
        return self.corrected(super().predict(inputs, metas), metas)

    def corrected(self, logits: Tensor, metas: list[dict]) -> Tensor:
        """Multiplies probabilities by the prior, smoothed as in the public code.

        With prior q, the mean probability of the C classes in a frame, and s = 1 / (C max q), the
        factor is (q + s) / (1 + s C).

        Args:
            logits: (N, C, H, W), without a graph.
            metas: Metainfo of the N samples.

        Returns:
            (N, C, H, W), logarithms of the products; with ``prior_correction=False``, ``logits``.
        """
        if not self.prior_correction:
            return logits
        classes = logits.shape[1]
        prior = without_padding(logits, metas).softmax(dim=1).mean(dim=(2, 3), keepdim=True)
        smooth = 1 / classes / prior.amax(dim=1, keepdim=True)
        return logits.log_softmax(dim=1) + ((prior + smooth) / (1 + smooth * classes)).log()

    def propose(self, inputs: Tensor, metas: list[dict]) -> Tensor:
        """See base class. One forward pass learns; the view needs two more passes."""
        self.last_step.loss = self.last_step.entropy = self.last_step.confident_fraction = 0.0
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._mean = torch.zeros_like(self.mean_prediction)
        self._view = self._others = None
        if self.consistency:
            seed = self.seed + int(self.updates)
            preprocessor = self.segmentor.data_preprocessor
            self._view, found = photometric_view(inputs, metas, preprocessor, seed), []
            with torch.no_grad():
                keep = lambda logits, share: found.append(logits.clone())  # noqa: E731
                forward_windows(self.segmentor, self._view, metas, keep)
            self._others = iter(found)
        self._metas = metas
        return self.corrected(super().propose(inputs, metas), metas)

    def discard(self) -> None:
        """See base class. Also frees the frame and its view."""
        super().discard()
        self._seen, self._mean, self._view, self._others, self._metas = [], None, None, None, []

    @torch.no_grad()
    def pixel_weights(self, logits: Tensor) -> Tensor:
        """The weights of a window's pixels: (N, H, W), 0 if a pixel does not count.

        Args:
            logits: (N, C, H, W).
        """
        mean = self.mean_prediction.view(1, -1, 1, 1)
        diversity = _scaled(1 - F.cosine_similarity(mean, logits.softmax(dim=1), dim=1))
        certainty = _scaled(-pixel_entropy(logits))
        weights = (diversity * certainty / self.temperature).exp()
        return weights.masked_fill(diversity < diversity.mean(), 0.0)

    def learn(self, logits: Tensor, share: float) -> None:
        """See base class. The gradient of the plain frame's logits; the view is a constant."""
        plain = logits.detach()
        weights = self.pixel_weights(plain)
        loss = soft_likelihood_ratio(logits)
        if self.consistency:
            loss = loss + symmetric_cross_entropy(next(self._others), logits)
            self._seen.append((plain.clone(), weights))
        loss = share * (weights * loss).mean()
        loss.backward()
        self._mean += share * plain.softmax(dim=1).mean(dim=(0, 2, 3))
        record = self.last_step
        record.loss += float(loss.detach())
        record.entropy += share * float(pixel_entropy(plain).mean())
        record.confident_fraction += share * float((weights > 0).double().mean())

    def update(self) -> None:
        """See base class. First adds the gradients of the view; the plain frame is a constant."""
        if self.consistency:
            self._seen.reverse()
            with self.within_budget(self._view, self._metas), torch.enable_grad():
                forward_windows(self.segmentor, self._view, self._metas, self._learn_from_view)
        super().update()
        self.updates += 1
        self.mean_prediction.lerp_(self._mean, 1 - self.prediction_momentum)

    def _learn_from_view(self, logits: Tensor, share: float) -> None:
        plain, weights = self._seen.pop()
        (share * (weights * symmetric_cross_entropy(logits, plain)).mean()).backward()

    @torch.no_grad()
    def after_update(self) -> None:
        """See base class. Averages the parameters with the source's (weight ensembling)."""
        for name, parameter in self.adaptable_parameters().items():
            parameter.lerp_(self._initial[name], 1 - self.source_momentum)

    @torch.no_grad()
    def reset(self) -> None:
        """See base class; also restarts the moving average and the views."""
        super().reset()
        self.mean_prediction.fill_(1 / len(self.mean_prediction))
        self.updates.zero_()


def soft_likelihood_ratio(logits: Tensor) -> Tensor:
    """−Σ p ln(p / (1 − p) + 1e-5) per pixel, with p clamped to 0.99: (N, C, H, W) to (N, H, W)."""
    p = logits.softmax(dim=1).clamp(max=_CLIP)
    return -(p * (p / (1 - p) + _EPSILON).log()).sum(dim=1)


def _scaled(values: Tensor) -> Tensor:
    """Values scaled to 0 to 1; zeros if all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)
