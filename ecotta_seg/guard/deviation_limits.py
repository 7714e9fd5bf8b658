"""Limits of the difference between an adapted prediction and the frozen source's."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, Optional

from torch import Tensor

from ..layers.prediction_statistics import (
    class_diversity,
    mask_agreement,
    mean_entropy,
    surest_half,
)

# Share of the reference's entropy. Above this share, a lower diversity does not mean lost classes.
_SURE = 0.55


class PredictionDeviation(NamedTuple):
    """The difference between a model's prediction of a frame and the source's.

    Attributes:
        agreement: Agreement of the two masks on the half of the pixels that the source is surest
            of; 0 to 1, see ``mask_agreement``.
        entropy_share: Mean entropy divided by the source's mean entropy, at least 0.
        diversity_loss: The source's entropy of the mean class probabilities minus the model's, in
            nats; negative if the model's is higher.
    """

    agreement: float
    entropy_share: float
    diversity_loss: float


def prediction_deviation(current: Tensor, reference: Tensor) -> Optional[PredictionDeviation]:
    """Compares two predictions of a frame.

    Args:
        current: (N, C, H, W) logits of the adapted model.
        reference: The source's logits, of the same shape.

    Returns:
        The deviation; None if the reference has no finite numbers.
    """
    sure = surest_half(reference)
    if not sure.any():
        return None
    expected = mean_entropy(reference)
    return PredictionDeviation(
        mask_agreement(current.argmax(1)[sure], reference.argmax(1)[sure]),
        # A certain reference has no entropy to compare with.
        mean_entropy(current) / expected if expected > 1e-3 else 1.0,
        class_diversity(reference) - class_diversity(current),
    )


class DeviationLimits:
    """Limits the median of each field of ``PredictionDeviation`` over several checks.

    Entropy minimisation forgets rare classes first. The loss of diversity shows this long before
    the masks differ on the pixels that the source is sure of. A method that corrects a wrong source
    also lowers diversity, but leaves more of the entropy. So the diversity limit applies only below
    55 % of the source's entropy.

    Args:
        min_agreement: Minimum of ``agreement``, 0 to 1.
        min_entropy_share: Minimum of ``entropy_share``, 0 to 1.
        max_diversity_loss: Maximum of ``diversity_loss`` in nats, above 0.
        margin: Parameters count as good if the agreement is at least ``min_agreement`` plus this
            margin, 0 to 1.

    Raises:
        ValueError: A limit is out of its range.
    """

    def __init__(
        self,
        min_agreement: float,
        min_entropy_share: float,
        max_diversity_loss: float,
        margin: float,
    ) -> None:
        if not all(0 <= share <= 1 for share in (min_agreement, min_entropy_share, margin)):
            raise ValueError(
                'the guard expects min_agreement, min_entropy_share and margin from 0 to 1, got '
                f'{min_agreement}, {min_entropy_share} and {margin}'
            )
        if not max_diversity_loss > 0:
            raise ValueError(
                f'the guard expects max_diversity_loss above 0 nats, got {max_diversity_loss}'
            )
        self.min_agreement, self.min_entropy_share = min_agreement, min_entropy_share
        self.max_diversity_loss, self.margin = max_diversity_loss, margin

    def exceeded(self, checks: Sequence[PredictionDeviation]) -> Optional[str]:
        """Returns a text about the first limit that the medians violate; None if all are kept."""
        agreement, left, lost = (median(values) for values in zip(*checks))
        if agreement < self.min_agreement:
            return f'agreement with the source fell to {agreement:.2f}'
        if left < self.min_entropy_share:
            return f'entropy fell to {left:.0%} of the source entropy'
        if lost > self.max_diversity_loss and left < _SURE:
            return f'classes are being lost: their diversity is {lost:.2f} nats below the source'
        return None

    def well_within(self, checks: Sequence[PredictionDeviation]) -> bool:
        """Whether every check is so far within the limits that the parameters count as good."""
        return all(
            check.agreement >= self.min_agreement + self.margin
            and (
                check.diversity_loss <= self.max_diversity_loss / 2 or check.entropy_share >= _SURE
            )
            for check in checks
        )
