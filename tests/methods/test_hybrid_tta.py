"""Hybrid-TTA against its published step, with two models and lists of losses."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor, in_frame_mode

LR = 1e-3
OPTIONS = dict(
    type='hybrid_tta',
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    mask_ratio=0.4,
    patch=16,
    reconstruction_weight=0.7,
    window=3,
    margin=0.01,
    loss_momentum=0.3,
    teacher_momentum=0.8,
    batch_norm=dict(mode='frame'),
    seed=3,
)


def _mask(step):
    """61x93 pixels are 4 x 6 patches of 16; 10 of them are covered."""
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3 + step))[:10]
    mask = torch.zeros(1, 1, 61, 93).double()
    for index in order.tolist():
        row, column = index // 6 * 16, index % 6 * 16
        mask[:, :, row : row + 16, column : column + 16] = 1
    return mask


def _reference(segmentor, reconstruction, images, metas):
    student, teacher = (in_frame_mode(segmentor).requires_grad_(True) for _ in range(2))
    convs = deepcopy(reconstruction)
    colour = torch.zeros(3).double().requires_grad_()
    parameters = [colour, *convs.parameters(), *student.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=0.9)
    norms = [m for m in student.modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm))]
    kept = {id(p) for m in norms for p in m.parameters()}
    blocks = [p for p in student.backbone.parameters() if id(p) not in kept]
    losses, slow, modes, predictions = [], 0.0, [], []
    for step, image in enumerate(images):
        with torch.no_grad():
            predictions.append(teacher.encode_decode(image, metas))
        labels, mask = predictions[-1].argmax(1), _mask(step)
        shown = image * (1 - mask) + colour.view(1, 3, 1, 1) * mask
        features = student.extract_feat(shown)
        logits = student.decode_head.predict(features, metas, student.test_cfg)
        built = sum(
            F.interpolate(F.conv2d(x, conv.weight, conv.bias), (61, 93), mode='bilinear')
            for conv, x in zip(convs, features)
        )
        cross_entropy = F.cross_entropy(logits, labels)
        error = ((built - image).abs() * mask).sum() / mask.sum() / 3
        optimizer.zero_grad()
        (cross_entropy + 0.7 * error).backward()
        losses.append(float(cross_entropy.detach()))
        efficient = len(losses) >= 3 and sum(losses[-3:]) / 3 < 1.01 * slow
        modes.append(efficient)
        if efficient:
            for parameter in blocks:
                parameter.grad = None
        slow = 0.3 * slow + 0.7 * losses[-1]
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(teacher.parameters(), student.parameters()):
                average.copy_(0.8 * average + 0.2 * parameter)
    return predictions, modes, student, colour.detach()


def test_hybrid_tta_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    images = [image * (1 + 0.5 * (i % 4)) for i, image in enumerate(images)]
    segmentor.double()
    plain = deepcopy(segmentor)
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    convs = segmentor.reconstruction.convs
    expected, modes, student, colour = _reference(plain, convs, images, metas)
    assert any(modes) and not all(modes[3:]), 'both kinds of steps have to occur'
    for image, prediction in zip(images, expected):
        assert torch.allclose(method.adapt(image, metas), prediction, atol=1e-6)
        assert method.last_step.updated
    assert colour.abs().min() > 0 and torch.allclose(segmentor.mask_colour, colour, 1e-5, 1e-9)
    for name, parameter in student.named_parameters():
        found, start = method.adaptable_parameters()[name], method._initial[name]
        assert (found - parameter).abs().max() <= 1e-10 + 1e-4 * (parameter - start).abs().max()


def test_an_efficient_step_leaves_the_backbone_s_kernels(frames):
    images, metas = frames
    method = build_method(deepcopy(OPTIONS), build_segmentor('deeplab')).eval()
    method.shifts = lambda: False
    before = {name: p.detach().clone() for name, p in method.adaptable_parameters().items()}
    method.adapt(images[0], metas)
    moved = {n for n, p in method.adaptable_parameters().items() if not torch.equal(p, before[n])}
    assert any(name.startswith('decode_head.') for name in moved)
    in_backbone = {name for name in moved if name.startswith('backbone.')}
    assert in_backbone and all(
        before[name].dim() == 1 and name.split('.')[-2] != 'conv1' for name in in_backbone
    )


def test_windows_have_their_own_parts_of_the_mask(frames):
    images, metas = frames
    segmentor = build_segmentor('deeplab', mode='slide', crop_size=(48, 48), stride=(32, 32))
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    mask, labels = method.mask(images[0], metas), torch.zeros(1, 61, 93).long()
    windows = method._cut(images[0], mask, labels, metas)
    assert len(windows) == 6
    assert torch.equal(windows[-1].mask, mask[:, :, :48, :48])
    assert torch.equal(windows[0].frame, images[0][:, :, 13:, 45:])
    method.adapt(images[0], metas)
    assert method.last_step.updated and method._windows == [] and method._maps == []


@pytest.mark.parametrize('change', [dict(mask_ratio=1.0), dict(window=0), dict(margin=-1)])
def test_wrong_options_are_refused(segmentor, change):
    with pytest.raises(ValueError, match='expected mask_ratio'):
        build_method({**OPTIONS, **change}, segmentor)
