"""CoTTA against a plain re-implementation with three separate models."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.inference.views import view_probabilities
from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, in_frame_mode

OPTIONS = dict(
    type='cotta',
    optimizer=dict(type='Adam', lr=1e-3),
    teacher_momentum=0.9,
    anchor_threshold=0.5,
    restore_probability=0.2,
    views=4,
    seed=3,
)
VIEWS = [(1.0, False), (1.0, True), (0.5, False), (0.5, True)]


def _probabilities(model, image, scale, flip):
    """One view, resized and mirrored by hand."""
    height, width = image.shape[2:]
    size = (round(height * scale), round(width * scale))
    seen = F.interpolate(image, size, mode='bilinear', align_corners=False)
    seen = torch.flip(seen, [3]) if flip else seen
    with torch.no_grad():
        logits = model.encode_decode(seen, [dict(img_shape=torch.Size(size))])
    logits = torch.flip(logits, [3]) if flip else logits
    logits = F.interpolate(logits, (height, width), mode='bilinear', align_corners=False)
    return logits.softmax(1)


def _reference(segmentor, images, metas):
    student, teacher, anchor = (in_frame_mode(segmentor) for _ in range(3))
    student.requires_grad_(True)
    source = {name: p.detach().clone() for name, p in student.named_parameters()}
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(3)
    predictions = []
    for image in images:
        plain = _probabilities(teacher, image, 1.0, False)
        average = sum(_probabilities(teacher, image, *view) for view in VIEWS) / len(VIEWS)
        sure = _probabilities(anchor, image, 1.0, False).max(1, keepdim=True).values > 0.5
        prediction = torch.where(sure, plain, average)
        predictions.append(prediction)
        loss = F.cross_entropy(student.encode_decode(image, metas), prediction.argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for averaged, parameter in zip(teacher.parameters(), student.parameters()):
                averaged.copy_(0.9 * averaged + 0.1 * parameter)
            for name, parameter in student.named_parameters():
                mask = (torch.rand(parameter.shape, generator=generator) < 0.2).double()
                parameter.copy_(source[name] * mask + parameter * (1 - mask))
    return predictions, dict(student.named_parameters()), float(sure.float().mean())


def test_cotta_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    segmentor.double()
    expected, student, sure = _reference(segmentor, images, metas)
    assert 0 < sure < 1, 'both kinds of labels have to occur'
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    for image, prediction in zip(images, expected):
        logits = method.adapt(image, metas)
        assert torch.allclose(logits.softmax(1), prediction, atol=1e-7)
        assert method.last_step.updated
    assert method.last_step.confident_fraction == pytest.approx(sure)
    # Adam divides by gradients of next to nothing: a mean, not each element, is compared.
    error = [(p - student[n]).abs().mean() for n, p in method.adaptable_parameters().items()]
    moved = [
        (p - method._initial[n]).abs().mean() for n, p in method.adaptable_parameters().items()
    ]
    assert sum(error) < 0.02 * sum(moved)


def test_restoring_hits_its_share_and_only_source_values(segmentor, frames):
    images, metas = frames
    method = build_method({**OPTIONS, 'restore_probability': 0.3}, segmentor).eval()
    with torch.no_grad():
        for parameter in method.adaptable_parameters().values():
            parameter += 1
    method.restore()
    restored = total = 0
    for name, parameter in method.adaptable_parameters().items():
        back = parameter == method._initial[name]
        assert torch.equal(parameter[~back], (method._initial[name] + 1)[~back])
        restored, total = restored + int(back.sum()), total + back.numel()
    assert restored / total == pytest.approx(0.3, abs=0.03)


def test_random_numbers_are_its_own_and_go_on(frames):
    images, metas = frames
    first, second = (build_method(deepcopy(OPTIONS), build_segmentor('deeplab')) for _ in range(2))
    first.adapt(images[0], metas)
    before = torch.get_rng_state()
    first.adapt(images[1], metas)
    assert torch.equal(torch.get_rng_state(), before)
    second.load_method_state(first.method_state())
    torch.manual_seed(77)
    for image in images[2:4]:
        assert torch.equal(first.adapt(image, metas), second.adapt(image, metas))
    left, right = first.learned_tensors(), second.learned_tensors()
    assert left.keys() == right.keys() and any(name.startswith('teacher.') for name in left)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_one_view_is_the_teacher_alone(segmentor, frames):
    images, metas = frames
    method = build_method({**OPTIONS, 'views': 1}, segmentor).eval()
    method.adapt(images[0], metas)
    logits = method.predict(images[1], metas)
    with method.using(method.teacher), torch.no_grad():
        assert torch.equal(logits, segmentor.inference(images[1], metas))


def test_labels_are_those_of_the_window(frames):
    """In sliding mode the labels of each window are cut from the frame's."""
    images, metas = frames
    segmentor = build_segmentor('deeplab', mode='slide', crop_size=(48, 48), stride=(32, 32))
    method = build_method({**OPTIONS, 'views': 1, 'teacher_momentum': 1.0}, segmentor).eval()
    shown = []
    learn = method.learn

    def watched(logits, share):
        labels = next(method._labels)
        method._labels = iter([labels, *method._labels])
        shown.append((logits.shape[2:], labels.clone()))
        learn(logits, share)

    method.learn = watched
    labels = method.adapt(images[0], metas).argmax(1)
    assert len(shown) == 6
    assert torch.equal(shown[0][1], labels[:, :48, :48])
    assert torch.equal(shown[-1][1], labels[:, 13:, 45:])
    assert all(tuple(size) == labels.shape[1:] for size, labels in shown)


def test_padding_is_not_looked_at():
    predict = lambda x, metas: torch.cat([x, -x], 1)  # noqa: E731
    inputs = torch.zeros(1, 3, 8, 8)
    inputs[:, :, :6, :5] = torch.randn(1, 3, 6, 5)
    metas = [dict(img_padding_size=[0, 3, 0, 2])]
    from ecotta_seg.inference.views import View

    found = view_probabilities(predict, inputs, metas, View(2.0, True))
    assert found[:, :, 6:].abs().max() == 0 and found[:, :, :, 5:].abs().max() == 0
    assert torch.allclose(found[:, :, :6, :5].sum(1), torch.ones(1, 6, 5), atol=1e-6)


@pytest.mark.parametrize('change', [dict(views=15), dict(views=0), dict(restore_probability=2.0)])
def test_wrong_options_are_refused(segmentor, change):
    with pytest.raises(ValueError, match='expected'):
        build_method({**OPTIONS, **change}, segmentor)
