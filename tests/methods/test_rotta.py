"""RoTTA against its published step, with two models and a bank written out for the test."""

from copy import deepcopy
from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_seg.inference.photometric import photometric_view
from ecotta_seg.methods import build_method
from ecotta_seg.methods.frame_bank import BankedFrame, FrameBank
from tests.segmentors import NUM_CLASSES, build_segmentor

LR, ALPHA, CAPACITY = 1e-2, 0.1, 3
OPTIONS = dict(
    type='rotta',
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    norm_momentum=ALPHA,
    teacher_momentum=0.8,
    capacity=CAPACITY,
    frames_per_update=2,
    seed=3,
)


class _Robust(nn.Module):
    """The published norm: new statistics enter the running ones, and both normalise."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps, self.moving = norm.weight, norm.bias, norm.eps, False
        self.mean, self.var = norm.running_mean.clone(), norm.running_var.clone()

    def forward(self, x):
        mean, var = self.mean, self.var
        if self.moving and x[:, 0].numel() > 1:
            var, mean = torch.var_mean(x, dim=(0, 2, 3), unbiased=False)
            mean = (1 - ALPHA) * self.mean + ALPHA * mean
            var = (1 - ALPHA) * self.var + ALPHA * var
            self.mean, self.var = mean.detach(), var.detach()
        normed = (x - mean.view(-1, 1, 1)) / torch.sqrt(var.view(-1, 1, 1) + self.eps)
        return normed * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def _model(segmentor):
    model = deepcopy(segmentor).requires_grad_(False)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, _Robust(child))
    norms = [m for m in model.modules() if isinstance(m, (_Robust, nn.LayerNorm))]
    return model, [p for m in norms for p in m.parameters()]


def _moving(model, moving):
    for module in model.modules():
        if isinstance(module, _Robust):
            module.moving = moving


def _score(age, uncertainty):
    return 1 / (1 + exp(-age / CAPACITY)) + uncertainty / log(NUM_CLASSES)


def _reference(segmentor, images, metas):
    student, parameters = _model(segmentor)
    teacher, averages = _model(segmentor)
    for parameter in parameters:
        parameter.requires_grad_()
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=0.9)
    bank, mean, predictions = [], torch.zeros(NUM_CLASSES).double(), []
    for step, image in enumerate(images, 1):
        with torch.no_grad():
            logits = teacher.encode_decode(image, metas)
            predictions.append(logits)
            p = logits.softmax(1)
            uncertainty = float(-(p * p.log()).sum(1).mean())
            shares = F.one_hot(p.argmax(1), NUM_CLASSES).double().mean((0, 1, 2))
        label = int((shares - mean).argmax())
        mean = (mean * (step - 1) + shares) / step
        same = [item for item in bank if item[1] == label]
        counts = [sum(item[1] == c for item in bank) for c in range(NUM_CLASSES)]
        if len(same) < CAPACITY / NUM_CLASSES:
            rivals = [i for i in bank if counts[i[1]] == max(counts)]
            rivals = rivals if len(bank) == CAPACITY else None
        else:
            rivals = same
        worst = max(rivals, key=lambda i: _score(i[3], i[2])) if rivals else None
        if worst is None or _score(worst[3], worst[2]) > _score(0, uncertainty):
            bank = [item for item in bank if item is not worst]
            bank.append([image, label, uncertainty, 0])
        for item in bank:
            item[3] += 1
        generator = torch.Generator().manual_seed(3 + step)
        order = torch.randperm(len(bank), generator=generator)[:2]
        optimizer.zero_grad()
        for index in order:
            frame, _, _, age = bank[index]
            _moving(teacher, True)
            with torch.no_grad():
                soft = teacher.encode_decode(frame, metas).softmax(1)
            _moving(teacher, False)
            view = photometric_view(frame, metas, segmentor.data_preprocessor, 3 + step)
            _moving(student, True)
            out = student.encode_decode(view, metas)
            _moving(student, False)
            weight = torch.sigmoid(torch.tensor(-age / CAPACITY)).double()
            loss = weight * F.cross_entropy(out, soft) / len(order)
            loss.backward()
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(averages, parameters):
                average.copy_(0.8 * average + 0.2 * parameter)
    return predictions, averages, bank


def test_rotta_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    # Frames of different predictions, so that the bank refuses some and replaces others.
    images = [image * (2.2 - 0.2 * i) + 0.3 * (i % 4) for i, image in enumerate(images)]
    segmentor.double()
    expected, averages, bank = _reference(segmentor, images, metas)
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    start = [p.clone() for p in method.teacher.values()]
    for image, prediction in zip(images, expected):
        assert torch.allclose(method.adapt(image, metas), prediction, atol=1e-6)
        assert method.last_step.updated
    assert [item.age for item in method.bank.items] == [item[3] for item in bank]
    assert all(torch.equal(i.frame, b[0]) for i, b in zip(method.bank.items, bank))
    assert [item.category for item in method.bank.items] == [item[1] for item in bank]
    assert max(item[3] for item in bank) > len(bank), 'the bank is more than the latest frames'
    for found, wanted, first in zip(method.teacher.values(), averages, start):
        assert (found - wanted).abs().max() <= 1e-12 + 1e-5 * (wanted - first).abs().max()


def _item(category, uncertainty):
    return BankedFrame(torch.zeros(1, 3, 2, 2), [0, 0, 0, 0], category, uncertainty)


def test_the_bank_is_balanced_and_keeps_the_certain():
    bank = FrameBank(4, 2, 1.0, 1.0)
    for uncertainty in (0.1, 0.4, 0.2):
        bank.add(_item(0, uncertainty))
    # Two of each class fit; the worst of its own class had to go.
    assert [item.uncertainty for item in bank.items] == [0.1, 0.2]
    assert not bank.add(_item(0, 5.0)), 'more uncertain than all of its class'
    assert bank.add(_item(1, 0.5)) and bank.add(_item(1, 0.6))
    assert [item.category for item in bank.items] == [0, 0, 1, 1]
    assert bank.add(_item(1, 0.0)) and len(bank.items) == 4
    assert sorted(item.uncertainty for item in bank.items) == [0.0, 0.1, 0.2, 0.5]


def test_two_frames_in_a_batch_are_two_in_the_bank(frames):
    images, metas = frames
    method = build_method(deepcopy(OPTIONS), build_segmentor('deeplab')).eval()
    method.adapt(torch.cat(images[:2]), metas * 2)
    assert int(method.updates) == 2 and len(method.bank.items) in (1, 2)


def test_a_damaged_bank_is_refused(segmentor, frames):
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    method.adapt(frames[0][0], frames[1])
    state = method.method_state()
    state['bank'][0].pop('age')
    with pytest.raises(ValueError, match='its bank of frames'):
        method.load_method_state(state)


@pytest.mark.parametrize('change', [dict(norm_momentum=2), dict(capacity=0)])
def test_wrong_options_are_refused(segmentor, change):
    with pytest.raises(ValueError, match='expected norm_momentum'):
        build_method({**OPTIONS, **change}, segmentor)


def test_a_memory_budget_is_refused(segmentor):
    with pytest.raises(ValueError, match='leave out memory_budget'):
        build_method({**OPTIONS, 'memory_budget': '2.0x'}, segmentor)
