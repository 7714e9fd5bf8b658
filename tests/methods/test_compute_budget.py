"""A compute budget: the arithmetic of whole streams, by torch's own counter of operations."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from mmseg.structures import SegDataSample

from ecotta_seg.guard import UpdateGuard
from ecotta_seg.methods import build_method
from ecotta_seg.methods.compute_budget import ComputeBudget
from ecotta_seg.methods.frame_costs import FrameCosts
from ecotta_seg.methods.source import SourceModel
from ecotta_seg.resume.state_file import plain
from tests.methods.test_every_method import method_options, same
from tests.methods.test_frame_costs import counted
from tests.segmentors import build_segmentor

SIZE = (32, 48)
COSTS = FrameCosts(inference=1000, prediction=1200, step=1500, estimate=0, source=0)


def stream(number, size=SIZE):
    """Batches of one picture: smooth, so that a guard does not take them for noise."""
    generator = torch.Generator().manual_seed(2)
    batches = []
    for index in range(number):
        coarse = torch.randint(0, 255, (1, 3, 4, 6), generator=generator).float()
        picture = torch.nn.functional.interpolate(coarse, size, mode='bilinear')[0].byte()
        meta = dict(img_shape=size, ori_shape=size, stream_index=index)
        batches.append(dict(inputs=[picture], data_samples=[SegDataSample(metainfo=meta)]))
    return batches


def built(name, **options):
    options = {**method_options(name), 'estimate': None, **options}
    return build_method(options, build_segmentor('deeplab', shallow=True)).eval()


def prepared(method, batch):
    """The operations without data, so that a counter around a frame does not see them."""
    meta = batch['data_samples'][0].metainfo
    inputs = torch.zeros(1, 3, *meta['img_shape'])
    return method.compute_budget.costs_of(method, inputs, [meta])


def inference_of(batch):
    source = SourceModel(build_segmentor('deeplab', shallow=True)).eval()
    return counted(lambda: source.test_step(deepcopy(batch)))


@pytest.mark.parametrize(('name', 'budget', 'options'), [
    ('tent', '1.1x', {}),
    ('tent', '1.5x', dict(estimate=dict(every=5))),
    ('tent', '2x', dict(reset_every=4)),
    ('ecotta', '1.5x', {}),
    ('ecotta', '2x', dict(memory_engine=False)),
    ('ecotta_plus', '2.5x', {}),
    ('ecotta_plus', '3x', dict(memory_engine=False)),
    ('ecotta_plus', '3.2x', dict(estimate=dict(every=5))),
    ('rotta', '1.5x', {}),
])  # fmt: skip
def test_a_stream_keeps_its_budget(name, budget, options):
    method, batches = built(name, compute_budget=budget, **options), stream(40)
    method.guard = UpdateGuard(check_every=10, max_entropy=1.0, max_class_share=1.0)
    account = method.compute_budget
    inference = inference_of(batches[0])
    costs = prepared(method, batches[0])
    limit, spent, learned = float(budget[:-1]), 0, []
    assert costs.inference == inference
    for index, batch in enumerate(batches):
        spent += counted(lambda: method.test_step(batch))  # noqa: B023
        learned.append(method.last_step.updated)
        # The first estimate of mIoU takes operations that are saved up afterwards.
        if options.get('estimate') is None or account.learned:
            assert spent <= limit * inference * (index + 1)
    assert spent <= account.operations <= limit * account.inference_operations
    assert account.inference_operations == 40 * inference
    # The rest is less than what the bucket holds, so not a step more was affordable.
    saved = 2 * costs.step + costs.estimate
    assert account.operations >= 40 * limit * inference - saved
    assert 0 < sum(learned) <= account.learned < 40
    assert account.to_dict() == dict(
        budget=limit,
        learned_share=account.learned / 40,
        operations_to_inference=account.operations / (40 * inference),
    )


class _Worth:
    """A method that says of each frame whether it is worth a step."""

    estimate = None

    def __init__(self, worth=(True,)):
        self.worth, self.asked = list(worth), 0

    def worth_learning(self, inputs, metas):
        self.asked += 1
        return self.worth[metas[0]['index'] % len(self.worth)]


def choices(budget, frames, worth=(True,), costs=COSTS, estimate=None):
    """Which frames a budget learns from."""
    account = ComputeBudget(budget, build_segmentor('deeplab', shallow=True))
    account.costs_of = lambda *frame: costs
    method, chosen = _Worth(worth), []
    method.estimate = estimate
    for index in range(frames):
        frame = method, torch.zeros(1), [dict(index=index)]
        account.begin_frame(*frame)
        chosen.append(account.affords_step(*frame))
        if chosen[-1]:
            account.take_step(1)
    return chosen, account, method


@pytest.mark.parametrize('budget', [1.2, 1.3, 1.5, 1.7, 2.0, 2.5, 2.69])
def test_frames_are_learned_from_as_often_as_the_bucket_allows(budget):
    chosen, account, _ = choices(f'{budget}x', 97)
    # Each frame adds (budget - 1.2) inferences; a step takes 1.5.
    for frames in range(1, 98):
        assert sum(chosen[:frames]) == int(frames * (budget - 1.2) / 1.5 + 1e-9)
    assert account.learned == sum(chosen) and account.frames == 97


def test_a_bucket_holds_two_steps():
    chosen, _, _ = choices('1.5x', 101, worth=[False] * 50 + [True] * 51)
    # The frames without worth fill the bucket long before their end; it has 0.3 a frame for 1.5.
    after = chosen[-51:]
    assert not any(chosen[:50]) and after[:2] == [True, True]
    assert sum(after) == 2 + int(0.3 * 50 / 1.5)


def test_a_budget_for_each_frame_asks_no_method():
    chosen, account, method = choices('2.7x', 20, worth=(False,))
    assert all(chosen) and method.asked == 0
    assert account.operations == 20 * (1200 + 1500)
    chosen, account, method = choices('2.6x', 20, worth=(False,))
    assert not any(chosen) and account.operations == 20 * 1200


def test_the_estimate_is_paid_when_it_is_made():
    costs = COSTS._replace(estimate=1600, source=1000)
    estimate = SimpleNamespace(
        is_due=lambda method, metas: metas[0]['index'] % 5 == 0, gives_source=False, every=5
    )
    for frames in range(1, 98):
        chosen, account, _ = choices('1.6x', frames, costs=costs, estimate=estimate)
        others = frames * 1200 + -(-frames // 5) * 1600
        assert account.operations == others + account.learned * 1500
        # 1.6 inferences a frame, of which a mean of 1.2 + 1.6 / 5 is not for steps; the first
        # estimate is paid for before the first step.
        assert account.learned == max(0, int((frames * 0.08 - 0.8 * 1.6) / 1.5 + 1e-9))
        assert not account.learned or account.operations <= 1600 * frames
    assert account.learned == 4
    estimate.gives_source = True
    _, account, _ = choices('1.6x', 20, costs=costs, estimate=estimate)
    assert account.learned == 0
    assert account.operations == 20 * 1200 + 4 * 1600 + 16 * 1000


@pytest.mark.parametrize(('name', 'options'), [
    ('tent', dict(estimate=dict(every=5, fallback=True))),
    ('cotta', {}),
    ('ecotta_plus', {}),
    ('ecotta_plus', dict(reset_every=3, memory_engine=False)),
])  # fmt: skip
def test_a_large_budget_changes_nothing(name, options):
    free, bound = built(name, **options), built(name, compute_budget='1000x', **options)
    for batch in stream(8):
        (expected,), (found,) = free.test_step(deepcopy(batch)), bound.test_step(deepcopy(batch))
        assert torch.equal(found.seg_logits.data, expected.seg_logits.data)
        assert bound.last_step.updated == free.last_step.updated
    assert same(free.method_state(), bound.method_state())
    assert bound.compute_budget.learned == 8


def test_a_small_budget_is_refused_with_the_smallest_one():
    method, (batch,) = built('cotta', compute_budget='2x'), stream(1)
    with pytest.raises(ValueError, match='predicting alone takes CoTTA 3.* times the') as error:
        method.test_step(deepcopy(batch))
    least, each = (text for text in str(error.value).split("'") if text.endswith('x'))
    method = built('cotta', compute_budget=least)
    for _ in range(2):
        method.test_step(deepcopy(batch))
    assert method.compute_budget.learned == 0
    method = built('cotta', compute_budget=each)
    for _ in range(2):
        method.test_step(deepcopy(batch))
    assert method.compute_budget.learned == 2
    with pytest.raises(ValueError, match='times the operations'):
        built('cotta', compute_budget=f'{float(least[:-1]) - 0.01}x').test_step(batch)
    method = built('tent', compute_budget='1.1x', estimate=dict(every=2))
    with pytest.raises(ValueError, match='predicting and estimating mIoU alone takes Tent'):
        method.test_step(stream(1)[0])


def test_frames_out_of_the_stream_do_not_count():
    method, batches = built('tent', compute_budget='1.5x'), stream(6)
    method.test_step(batches[0])
    before = method.compute_budget.state_dict()
    with method.adaptation_disabled():
        method.test_step(batches[1])
    assert method.compute_budget.state_dict() == before
    # Frames of the stream that are predicted only do.
    method.adapting = False
    method.test_step(batches[2])
    method.adapting = True
    batches[3]['data_samples'][0].set_metainfo(dict(frame_fault='black'))
    method.test_step(batches[3])
    account = method.compute_budget
    assert account.frames == 3 and account.operations == account.inference_operations
    assert account.balance == 1.5 * account.operations - account.operations


def test_a_pause_of_the_guard_takes_nothing_out():
    method, batches = built('tent', compute_budget='100x'), stream(3)
    method.guard = UpdateGuard(max_entropy=1.0, max_class_share=1.0)
    method.guard.cooldown._left = 2
    for batch in batches:
        method.test_step(batch)
    assert method.compute_budget.learned == 1 and method.guard.cooldown._left == 0


def test_a_restored_account_goes_on():
    method, batches = built('ecotta_plus', compute_budget='2.6x'), stream(24)
    for batch in batches[:11]:
        method.test_step(deepcopy(batch))
    state, account = method.method_state(), method.compute_budget.state_dict()
    plain(account)
    other = built('ecotta_plus', compute_budget='2.6x')
    other.load_method_state(state)
    other.compute_budget.load_state_dict(deepcopy(account))
    for batch in batches[11:]:
        for each in (method, other):
            each.test_step(deepcopy(batch))
        assert other.last_step.updated == method.last_step.updated
    assert same(other.method_state(), method.method_state())
    assert other.compute_budget.state_dict() == method.compute_budget.state_dict()
    assert 0 < other.compute_budget.learned < 24
    with pytest.raises(ValueError, match='compute budget'):
        other.compute_budget.load_state_dict({'balance': 0.0})


def test_the_gate_says_before_the_step_whether_a_frame_is_worth_it(monkeypatch):
    method, batches = built('ecotta_plus', compute_budget='2.6x'), stream(12)
    prepared(method, batches[0])
    probes, probe = [], method._probe
    monkeypatch.setattr(method, '_probe', lambda *frame: probes.append(1) or probe(*frame))
    wanted = iter([0.9, 0.49, 0.5, 0.1] * 3)
    strengths = []

    def strength(*measured):
        strengths.append(next(wanted))
        return strengths[-1]

    monkeypatch.setattr(method.shift_gate, 'strength', strength)
    # Full from the second frame on: each is asked.
    method.compute_budget.frames, method.compute_budget.balance = 1, 1e18
    monkeypatch.setattr('ecotta_seg.methods.compute_budget._SAVED_STEPS', 1e9)
    for number, batch in enumerate(batches, 1):
        learned = method.compute_budget.learned
        method.test_step(batch)
        # The probe runs once a frame, and its strength is the one that the frame is predicted with.
        assert len(probes) == number and float(method.strength) == pytest.approx(strengths[-1])
        assert method.compute_budget.learned - learned == (strengths[-1] >= 0.5)
    # Without a gate each frame is.
    assert built('ecotta_plus', shift_gate=None).worth_learning(None, None)
    assert built('tent').worth_learning(None, None)
