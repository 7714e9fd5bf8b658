"""How far an adapted prediction may be from the frozen source's."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, Optional

from torch import Tensor

from .prediction_watch import class_diversity, mask_agreement, mean_entropy, surest_half

# Of the reference's entropy: a model that has more left loses no classes by minimising it.
_SURE = 0.55


class PredictionDrift(NamedTuple):
    """One frame's prediction beside that of the source.

    Attributes:
        agreement: Of the two masks, where the source is surest; 0 to 1, see ``mask_agreement``.
        entropy_share: Mean entropy over that of the source, at least 0.
        diversity_loss: How much lower the entropy of the mean class probabilities is, in nats;
            below 0 where it is higher.
    """

    agreement: float
    entropy_share: float
    diversity_loss: float


def prediction_drift(current: Tensor, reference: Tensor) -> Optional[PredictionDrift]:
    """Compares two predictions of a frame.

    Args:
        current: (N, C, H, W) logits of the adapted model.
        reference: The source's, the same shape.

    Returns:
        None where the reference has no numbers.
    """
    sure = surest_half(reference)
    if not sure.any():
        return None
    expected = mean_entropy(reference)
    return PredictionDrift(
        mask_agreement(current.argmax(1)[sure], reference.argmax(1)[sure]),
        # A reference that is certain itself has nothing to compare with.
        mean_entropy(current) / expected if expected > 1e-3 else 1.0,
        class_diversity(reference) - class_diversity(current),
    )


class DriftLimits:
    """Limits of ``PredictionDrift``, each for the median of some checks.

    Entropy minimisation forgets rare classes first, and long before the masks differ where the
    source is sure: the diversity tells it. Tent at ten times its rate on a drive that the source
    does not know (DeepLabV3+ R18, CamVid, severity 4) has lost 0.04 to 0.23 nats in its first
    round of 96 frames, with the mIoU at its height, 0.27 to 0.41 in the second, with 2 % less, and
    0.43 to 0.54 in the third, with 4 % less than plain batch-norm statistics. SAR at 64 times its
    rate has lost 0.15 at most, there and on CamVid's val sequence, and EcoTTA+ 0.12. Where a source
    that is lost itself is put right, more is lost by right (SegFormer-B0 under EcoTTA+ in rain of
    severity 5: 0.23, with 15 % more mIoU), but there 0.6 of the entropy and more is left, and after
    the first round of Tent 0.5 and less. So it counts where less than 0.55 is.

    Args:
        min_agreement: 0 to 1.
        min_entropy_share: 0 to 1.
        max_diversity_loss: In nats, above 0.
        margin: How far above ``min_agreement`` parameters are good ones to go back to.

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

    def exceeded(self, checks: Sequence[PredictionDrift]) -> Optional[str]:
        """Which limit the median of the checks is beyond; None where there is none."""
        agreement, left, lost = (median(values) for values in zip(*checks))
        if agreement < self.min_agreement:
            return f'agreement with the source fell to {agreement:.2f}'
        if left < self.min_entropy_share:
            return f'entropy fell to {left:.0%} of that of the source'
        if lost > self.max_diversity_loss and left < _SURE:
            return f'classes are being lost: their diversity is {lost:.2f} nats below the source'
        return None

    def well_within(self, checks: Sequence[PredictionDrift]) -> bool:
        """Whether each check was such that its parameters are good ones to go back to."""
        return all(
            check.agreement >= self.min_agreement + self.margin
            and (
                check.diversity_loss <= self.max_diversity_loss / 2 or check.entropy_share >= _SURE
            )
            for check in checks
        )
