"""What the guard reads off predictions, against NumPy and hand-made frames."""

import numpy as np
import pytest
import torch

from ecotta_seg.guard.entropy_limit import EntropyLimit
from ecotta_seg.layers.prediction_statistics import (
    entropy_share,
    largest_share,
    mask_agreement,
    mean_entropy,
    surest_half,
)


def test_agreement_is_a_mean_iou_over_the_references_classes():
    generator = torch.Generator().manual_seed(0)
    current = torch.randint(0, 5, (1, 20, 30), generator=generator)
    reference = torch.where(torch.rand(1, 20, 30, generator=generator) < 0.7, current, 2)
    expected = []
    for number in range(5):
        a, b = (current == number).numpy(), (reference == number).numpy()
        expected.append((a & b).sum() / (a | b).sum())
    assert mask_agreement(current, reference) == pytest.approx(np.mean(expected))
    assert mask_agreement(current, current) == 1
    rare = reference.clone()
    rare[0, 0, 0] = 9
    assert mask_agreement(rare, rare, min_share=0.01) == 1
    assert mask_agreement(reference, rare, min_share=0.01) > 0.9


def test_shares_and_entropy():
    logits = torch.zeros(1, 4, 16, 16)
    assert mean_entropy(logits) == pytest.approx(np.log(4))
    assert entropy_share(logits) == pytest.approx(1.0)
    logits[:, 1, :9] = 50.0
    logits[:, 2, 9:] = 50.0
    # Rows 0, 4 and 8, and row 12; all certain.
    assert largest_share(logits) == 0.75
    assert mean_entropy(logits) == pytest.approx(0.0, abs=1e-6)


def test_the_half_that_is_surest():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, 6, 7, generator=generator) * torch.rand(1, 1, 6, 7) * 9
    p = torch.softmax(logits, 1).numpy().astype(np.float64)
    entropy = -(p * np.log(p)).sum(1)
    assert np.array_equal(surest_half(logits).numpy(), entropy <= np.sort(entropy, None)[20])
    assert not surest_half(logits * float('nan')).any()


def learn(limit, entropy, frames):
    for _ in range(frames):
        assert limit.judge(limit.see(entropy)) is None
        limit.learned()


def test_usual_entropies_set_the_limit_and_go_back_with_the_parameters():
    limit = EntropyLimit(highest=0.3, window=1)
    assert limit.limit() == 1.25
    learn(limit, 0.2, 10)
    assert limit.limit() == 0.3 and '31%' in limit.judge(limit.see(0.31))
    learn(limit, 0.3, 30)
    assert limit.limit() == pytest.approx(0.375)
    limit.keep()
    learn(limit, 0.32, 60)
    assert limit.limit() == pytest.approx(0.4)
    other = EntropyLimit(highest=0.3, window=1)
    other.load_state_dict(limit.state_dict())
    for one in (limit, other):
        one.back_to_good()
        assert one.limit() == pytest.approx(0.375)
        one.back_to_start()
        assert one.limit() == 0.3


def test_the_median_of_a_window_is_judged():
    limit = EntropyLimit(highest=0.3, window=3)
    learn(limit, 0.1, 3)
    assert limit.judge(limit.see(0.9)) is None
    assert limit.judge(limit.see(0.9)) == 'the entropy of the prediction is at 90% of its maximum'
    assert EntropyLimit(highest=1, window=1).judge(1.0) is None
