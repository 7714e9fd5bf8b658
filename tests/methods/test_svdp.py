"""SVDP against a plain re-implementation with three separate models and two prompts."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.inference.dropout_variance import dropout_variance
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, in_frame_mode

LR, PROMPTS = 1e-2, 40
OPTIONS = dict(
    type='svdp',
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    teacher_momentum=0.9,
    prompts=PROMPTS,
    prompt_scale=5.0,
    dropout_samples=3,
    anchor_threshold=0.5,
    restore_probability=0.2,
    views=2,
    seed=3,
)


def _with(image, colours, order):
    """Adds each colour at its pixel, in a loop."""
    width, prompted = image.shape[3], image.clone()
    offset = torch.zeros_like(image)
    for colour, pixel in zip(colours, order.tolist()):
        offset[0, :, pixel // width, pixel % width] += colour
    return prompted + offset


def _reference(segmentor, images, metas):
    student, teacher, anchor = (in_frame_mode(segmentor) for _ in range(3))
    student.requires_grad_(True)
    own, average = torch.zeros(PROMPTS, 3).double().requires_grad_(), torch.zeros(PROMPTS, 3)
    average = average.double()
    source = {name: p.detach().clone() for name, p in student.named_parameters()}
    optimizer = torch.optim.SGD([own, *student.parameters()], lr=LR, momentum=0.9)
    generator = torch.Generator().manual_seed(3)
    predictions = []
    for step, image in enumerate(images):
        variance = dropout_variance(teacher, image, metas, 3, 0.5, 3 + step)
        order = variance.flatten().argsort(descending=True, stable=True)[:PROMPTS]
        seen = _with(image, average, order)
        with torch.no_grad():
            sure = anchor.encode_decode(image, metas).softmax(1).amax(1, keepdim=True) > 0.5
            plain = teacher.encode_decode(seen, metas).softmax(1)
            flipped = teacher.encode_decode(seen.flip(3), metas).softmax(1).flip(3)
        prediction = torch.where(sure, plain, (plain + flipped) / 2)
        predictions.append(prediction)
        logits = student.encode_decode(_with(image, own, order), metas)
        optimizer.zero_grad()
        F.cross_entropy(logits, prediction.argmax(1)).backward()
        optimizer.step()
        with torch.no_grad():
            rate = 0.9 - 5.0 * float(variance.mean())
            average = rate * average + (1 - rate) * own
            for averaged, parameter in zip(teacher.parameters(), student.parameters()):
                averaged.copy_(0.9 * averaged + 0.1 * parameter)
            # The prompt's numbers are drawn, too: it is the first parameter of the segmentor.
            torch.rand(PROMPTS, 3, generator=generator)
            for name, parameter in student.named_parameters():
                mask = (torch.rand(parameter.shape, generator=generator) < 0.2).double()
                parameter.copy_(source[name] * mask + parameter * (1 - mask))
    return predictions, dict(student.named_parameters()), own.detach(), average, rate


def test_svdp_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    segmentor.double()
    expected, student, own, average, rate = _reference(segmentor, images, metas)
    assert 0 < rate < 0.85, 'the uncertainty has to count'
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    for image, prediction in zip(images, expected):
        logits = method.adapt(image, metas)
        assert torch.allclose(logits.softmax(1), prediction, atol=1e-7)
        assert method.last_step.updated
    assert own.abs().min() > 0
    assert torch.allclose(method.adapter_parameters()['prompt'], own, 1e-5, 1e-10)
    assert torch.allclose(method.teacher['prompt'], average, 1e-5, 1e-10)
    for name, parameter in student.items():
        found, start = method.adaptable_parameters()[name], method._initial[name]
        assert (found - parameter).abs().max() <= 1e-12 + 1e-5 * (parameter - start).abs().max()


def test_the_padding_has_no_prompt_and_small_frames_fewer():
    method = build_method({**OPTIONS, 'prompts': 5000}, build_segmentor('deeplab')).eval()
    frame = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    metas = [dict(img_shape=(64, 96), ori_shape=(61, 93), img_padding_size=[0, 3, 0, 3])]
    placed = method.place(frame, metas)
    assert len(placed.pixels[0]) == 5000
    rows, columns = placed.pixels[0] // 96, placed.pixels[0] % 96
    assert int(rows.max()) < 61 and int(columns.max()) < 93
    method.adapt(frame, metas)
    assert method.last_step.updated
    small, metas = frame[:, :, :33, :41], [dict(img_shape=(33, 41), ori_shape=(33, 41))]
    assert method.place(small, metas).pixels.shape == (1, 33 * 41)
    method.adapt(small, metas)
    prompt = method.adapter_parameters()['prompt']
    assert torch.isfinite(prompt).all()


@pytest.mark.parametrize(
    'change', [dict(prompts=0), dict(dropout_rate=1.0), dict(dropout_samples=1)]
)
def test_wrong_options_are_refused(segmentor, change):
    with pytest.raises(ValueError, match='expected prompts from 1'):
        build_method({**OPTIONS, **change}, segmentor)
