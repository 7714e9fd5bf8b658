"""Limits of an adapted prediction's distance from the source's."""

import numpy as np
import pytest
import torch

from ecotta_seg.guard.deviation_limits import (
    DeviationLimits,
    PredictionDeviation,
    prediction_deviation,
)
from ecotta_seg.layers.prediction_statistics import class_diversity

FINE = PredictionDeviation(agreement=0.9, entropy_share=0.8, diversity_loss=0.02)
SURE = FINE._replace(entropy_share=0.4)


def limits(**changes):
    options = dict(min_agreement=0.5, min_entropy_share=0.1, max_diversity_loss=0.25, margin=0.1)
    return DeviationLimits(**{**options, **changes})


def test_class_diversity_equals_numpy():
    logits = 3 * torch.randn(2, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    z = np.exp(logits.double().numpy()[:, :, ::4, ::4])
    shares = (z / z.sum(1, keepdims=True)).mean((0, 2, 3))
    assert class_diversity(logits) == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-5)
    certain = torch.full((1, 3, 8, 8), -1e4)
    certain[:, 1] = 1e4
    assert class_diversity(certain) == 0


def test_a_prediction_beside_itself_has_not_drifted():
    logits = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    assert prediction_deviation(logits, logits) == (1.0, 1.0, 0.0)
    assert prediction_deviation(logits, logits * float('nan')) is None


def test_a_class_that_is_lost_is_told():
    reference = torch.full((1, 3, 16, 24), -9.0)
    for index in range(3):
        reference[:, index, :, 8 * index : 8 * index + 8] = 9.0
    current = reference.clone()
    # The third class becomes the second.
    current[:, 1, :, 16:], current[:, 2, :, 16:] = 9.0, -9.0
    lost = prediction_deviation(current, reference).diversity_loss
    left = -(np.log(1 / 3) / 3 + 2 / 3 * np.log(2 / 3))
    assert lost == pytest.approx(np.log(3) - left, abs=1e-4)
    assert 'diversity is 0.46 nats below' in limits().exceeded([SURE._replace(diversity_loss=lost)])


@pytest.mark.parametrize(
    'beyond, told',
    [
        (dict(agreement=0.4), 'agreement with the source fell to 0.40'),
        (dict(entropy_share=0.05), 'entropy fell to 5%'),
        (dict(diversity_loss=0.3, entropy_share=0.5), 'diversity is 0.30 nats'),
    ],
)
def test_the_median_counts(beyond, told):
    bad = FINE._replace(**beyond)
    assert limits().exceeded([bad, FINE, FINE]) is None
    assert told in limits().exceeded([bad, FINE, bad])


def test_a_model_that_is_as_unsure_as_before_is_not_losing_classes():
    lost = FINE._replace(diversity_loss=0.3)
    assert limits().exceeded([lost]) is None
    assert limits().well_within([lost])
    assert not limits().well_within([lost._replace(entropy_share=0.5)])


@pytest.mark.parametrize(
    'near', [dict(agreement=0.55), dict(diversity_loss=0.2, entropy_share=0.5)]
)
def test_good_parameters_are_well_within(near):
    close = FINE._replace(**near)
    assert limits().exceeded([close]) is None
    assert limits().well_within([FINE, FINE]) and not limits().well_within([FINE, close])


def test_wrong_limits_are_refused():
    with pytest.raises(ValueError, match='min_agreement'):
        limits(min_agreement=1.5)
    with pytest.raises(ValueError, match='max_diversity_loss above 0 nats, got 0'):
        limits(max_diversity_loss=0)
