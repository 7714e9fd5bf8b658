"""Tent against a small reference: torch's own training-mode BatchNorm, entropy and Adam."""

from copy import deepcopy

import torch
from torch import nn

from ecotta_seg.methods import build_method


def _reference(segmentor, images, metas, lr):
    model = deepcopy(segmentor).requires_grad_(False)
    parameters = []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
            module.momentum = 0.0
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            parameters += [p.requires_grad_() for p in module.parameters()]
    # One value a channel: the image pool of ASPP keeps the running statistics.
    if hasattr(model.decode_head, 'image_pool'):
        model.decode_head.image_pool[1].bn.eval()
    optimizer = torch.optim.Adam(parameters, lr=lr)
    predictions = []
    for image in images:
        logits = model.encode_decode(image, metas)
        predictions.append(logits.detach())
        p = logits.softmax(1)
        optimizer.zero_grad()
        (-(p * p.log()).sum(1)).mean().backward()
        optimizer.step()
    return predictions


def test_tent_follows_the_reference(segmentor, frames):
    images, metas = frames
    expected = _reference(segmentor, images, metas, 1e-3)
    method = build_method(dict(type='tent', optimizer=dict(type='Adam', lr=1e-3)), segmentor).eval()
    for image, logits in zip(images, expected):
        assert torch.allclose(method.adapt(image, metas), logits, atol=2e-3, rtol=1e-3)
    # The reference moved: equality is no accident of two models that stand still.
    assert not torch.allclose(method.predict(images[0], metas), expected[0], atol=1e-2)
    assert not method.adapter_parameters()


def test_the_entropy_told_is_that_of_all_windows(segmentor, frames):
    image, metas = frames[0][0], frames[1]
    height, width = image.shape[2:]
    crop, stride = (height, width - 16), (height, 16)
    segmentor.test_cfg.update(mode='slide', crop_size=crop, stride=stride)
    method = build_method(dict(type='tent', optimizer=dict(type='Adam', lr=1e-3)), segmentor).eval()
    halves = image[:, :, :, :-16], image[:, :, :, 16:]
    entropies = []
    for half in halves:
        window = [dict(meta, img_shape=half.shape[2:]) for meta in metas]
        p = method.segmentor.encode_decode(half, window).detach().softmax(1)
        entropies.append(float(-(p * p.log()).sum(1).mean()))
    method.adapt(image, metas)
    assert abs(entropies[0] - entropies[1]) > 1e-4
    assert abs(method.last_step.entropy - sum(entropies) / 2) < 1e-5
    assert method.last_step.loss == method.last_step.entropy
