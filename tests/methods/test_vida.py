"""ViDA against its published step, with adapters that torch's parametrisations add to weights."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from ecotta_seg.inference.dropout_variance import dropout_variance
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, in_frame_mode

LR = 4e-4
OPTIONS = dict(
    type='vida',
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    low_rank=1,
    high_rank=4,
    adapter_rate=2.0,
    teacher_momentum=0.8,
    adapter_momentum=0.7,
    dropout_samples=3,
    batch_norm=dict(mode='frame'),
    seed=3,
)


class _Ranks(nn.Module):
    def __init__(self, adapters, index):
        super().__init__()
        lists = (adapters.low_down, adapters.low_up, adapters.high_down, adapters.high_up)
        self.parts = nn.ParameterList(nn.Parameter(p[index].detach().clone()) for p in lists)
        self.low = self.high = 1.0

    def forward(self, weight):
        down, up, more_down, more_up = self.parts
        change = self.low * up @ down + self.high * more_up @ more_down
        return weight + change.view_as(weight)


def _model(segmentor, adapters):
    model, ranks = in_frame_mode(segmentor), []
    for index, name in enumerate(adapters.names):
        path, _, key = name.rpartition('.')
        ranks.append(_Ranks(adapters, index))
        parametrize.register_parametrization(model.get_submodule(path), key, ranks[-1])
    return model.requires_grad_(True), ranks


def _weigh(ranks, low, high):
    for rank in ranks:
        rank.low, rank.high = low, high


def _reference(segmentor, adapters, images, metas, threshold):
    (student, own), (teacher, averages) = (_model(segmentor, adapters) for _ in range(2))
    mine = {id(p) for rank in own for p in rank.parameters()}
    optimizer = torch.optim.SGD(
        [
            dict(params=[p for p in student.parameters() if id(p) not in mine], lr=LR),
            dict(params=[p for rank in own for p in rank.parameters()], lr=2 * LR),
        ],
        lr=LR, momentum=0.9,
    )  # fmt: skip
    predictions, measured = [], []
    for step, image in enumerate(images):
        _weigh(averages, 1.0, 1.0)
        variance = dropout_variance(teacher, image, metas, 3, 0.5, 3 + step)
        uncertainty = float(variance.sqrt().mean())
        measured.append(uncertainty)
        high = 1 + uncertainty if uncertainty >= threshold else 1 - uncertainty
        _weigh(averages, 2 - high, high)
        _weigh(own, 2 - high, high)
        with torch.no_grad():
            logits = teacher.encode_decode(image, metas)
        predictions.append(logits)
        out = student.encode_decode(image, metas)
        forward = -(logits.softmax(1) * out.log_softmax(1)).sum(1)
        backward = -(out.softmax(1) * logits.log_softmax(1)).sum(1)
        optimizer.zero_grad()
        (0.5 * forward + 0.5 * backward).mean().backward()
        optimizer.step()
        with torch.no_grad():
            for averaged, parameter in zip(teacher.parameters(), student.parameters()):
                momentum = 0.7 if id(parameter) in mine else 0.8
                averaged.copy_(momentum * averaged + (1 - momentum) * parameter)
    return predictions, measured, own, averages, student


def test_vida_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    images = [image * (0.5 + 0.2 * i) for i, image in enumerate(images)]
    segmentor.double()
    plain = deepcopy(segmentor)
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    levels = sorted(_reference(plain, method.adapters, images, metas, 0.0)[1])
    # A threshold between, so that both adapters weigh more in some frames.
    method.threshold = (levels[4] + levels[5]) / 2
    expected, measured, own, averages, student = _reference(
        plain, method.adapters, images, metas, method.threshold
    )
    above = [uncertainty >= method.threshold for uncertainty in measured]
    assert any(above) and not all(above)
    for image, prediction in zip(images, expected):
        assert torch.allclose(method.adapt(image, metas), prediction, atol=1e-6)
        assert method.last_step.updated
    found = method.adapters
    for index, (rank, average) in enumerate(zip(own, averages)):
        for part, name in enumerate(('low_down', 'low_up', 'high_down', 'high_up')):
            learned = getattr(found, name)[index]
            assert torch.allclose(learned, rank.parts[part], 1e-5, 1e-10)
            taught = method.teacher[f'rank_adapters.{name}.{index}']
            assert torch.allclose(taught, average.parts[part], 1e-5, 1e-10)
    wanted = dict(student.decode_head.named_parameters())
    for name, parameter in method.segmentor.decode_head.named_parameters():
        assert torch.allclose(parameter, wanted[name], 1e-5, 1e-9)


def test_a_refused_step_takes_the_adapters_out_of_the_weights(frames):
    images, metas = frames
    method = build_method(deepcopy(OPTIONS), build_segmentor('segformer')).eval()
    method.adapt(images[0], metas)
    before = {name: p.detach().clone() for name, p in method.adaptable_parameters().items()}
    # What a frame is without ``update``.
    method.propose(images[1], metas)
    method.discard()
    after = method.adaptable_parameters()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize('change', [dict(low_rank=0), dict(adapter_momentum=2.0)])
def test_wrong_options_are_refused(segmentor, change):
    with pytest.raises(ValueError, match='expected low_rank'):
        build_method({**OPTIONS, **change}, segmentor)
