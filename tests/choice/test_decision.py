"""What may be taken, and the intervals of several finalists together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from ecotta_seg.choice.candidates import Candidate
from ecotta_seg.choice.decision import Finalist, decide, read_finalist
from ecotta_seg.choice.report import Setting, sentences, write_choice

TENT, SAR, PLUS = Candidate('tent', 'optimizer.lr', 1e-4), Candidate('sar'), Candidate('plus')


def finalist(candidate, gain, low, loss):
    return Finalist(candidate, gain, low, gain + 1, {'fog': gain}, loss, 0.5, 0.1, 2**21, 2**20)


def test_the_largest_gain_that_may_be_taken():
    decision = decide(
        [finalist(TENT, 3, 1, 0.2), finalist(SAR, 6, 4, 1.5), finalist(PLUS, 5, -1, 0.0)], 1.0
    )
    assert decision.chosen.candidate == TENT
    assert [f.candidate for f in decision.finalists] == [SAR, PLUS, TENT]
    assert 'clear day loses' in decision.why_not(decision.finalists[0])
    assert 'zero' in decision.why_not(decision.finalists[1])
    said = ' '.join(sentences(decision))
    assert said.startswith('Take tent, optimizer.lr 0.0001: expect +3.0 (+1.0 to +4.0) mIoU')
    assert 'The clear day loses 0.2' in said and '0.5 s (0.1 s' in said and '2.0 MiB' in said


@pytest.mark.parametrize('finalists', [[], [finalist(SAR, 6, 4, 1.5)], [finalist(SAR, 1, 0, 0.0)]])
def test_or_that_adapting_does_not_pay(finalists):
    decision = decide(finalists, 1.0)
    assert decision.chosen is None and sentences(decision)[0].startswith('Adapting does not pay')


@pytest.mark.parametrize('rounds, said', [(1, 'one round.'), (3, '3 rounds.')])
def test_the_page_names_the_rounds(rounds, said, tmp_path):
    setting = Setting('demo.py', 'demo.pth', 3, rounds, ['fog'], (4, 4))
    configs = Path(__file__).resolve().parents[2] / 'configs'
    write_choice(tmp_path, decide([], 1.0), {}, {}, setting, Config(), configs)
    page = (tmp_path / 'choice.md').read_text(encoding='utf-8')
    assert f'made on clear frames, {said} 4 clear frames' in page


def test_an_unmeasured_clear_day_refuses_nothing():
    assert decide([finalist(SAR, 6, 4, None)], 1.0).chosen.candidate == SAR


def iou(areas):
    """mIoU in percent of summed (3, C) intersection, prediction and label areas."""
    intersection, predicted, labelled = areas
    return 100 * np.mean(intersection / (predicted + labelled - intersection))


def test_the_interval_is_wide_enough_for_the_best_of_several(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    frames = 12

    def made(right):
        areas = []
        for _ in range(frames):
            label = random.integers(0, 3, 400)
            guess = np.where(random.random(400) < right, label, random.integers(0, 3, 400))
            counts = [
                [np.sum((label == c) & (guess == c)) for c in range(3)],
                [np.sum(guess == c) for c in range(3)],
                [np.sum(label == c) for c in range(3)],
            ]
            areas.append(counts)
        return torch.tensor(np.array(areas))[None]

    found = type('Areas', (), {})()
    found.frames = {'fog': list(range(frames))}
    found.method, found.source = {'fog': made(0.6)}, {'fog': made(0.5)}
    load = 'ecotta_seg.choice.decision.load_frame_areas'
    monkeypatch.setattr(load, lambda *_: found)
    monkeypatch.setattr('ecotta_seg.choice.decision.load_results', lambda *_: {})
    record = dict.fromkeys(
        ('forgetting', 'seconds', 'source_seconds', 'peak_bytes', 'inference_peak_bytes')
    )
    record['folder'] = str(tmp_path)
    alone, of_three = (read_finalist(TENT, record, of, 4000) for of in (1, 3))
    method, source = (a['fog'][0].numpy() for a in (found.method, found.source))
    assert alone.gain == pytest.approx(iou(method.sum(0)) - iou(source.sum(0)))
    draws = []
    for _ in range(4000):
        drawn = random.integers(0, frames, frames)
        draws.append(iou(method[drawn].sum(0)) - iou(source[drawn].sum(0)))
    for entry, level in ((alone, 0.95), (of_three, 1 - 0.05 / 3)):
        ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
        assert (entry.low, entry.high) == pytest.approx(ends, abs=0.4)
    assert of_three.low < alone.low and of_three.high > alone.high
