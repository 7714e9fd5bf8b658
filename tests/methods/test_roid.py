"""ROID against its published step, written out with two graphs at once."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_seg.inference.photometric import photometric_view
from ecotta_seg.methods import build_method
from tests.segmentors import NUM_CLASSES, in_frame_mode

LR = 2e-3
OPTIONS = dict(
    type='roid',
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    source_momentum=0.9,
    prediction_momentum=0.8,
    temperature=0.5,
    seed=3,
)


def _unit(x):
    return (x - x.min()) / (x.max() - x.min())


def _reference(segmentor, images, metas):
    """Each step as in the paper: both views in one graph, pixels in a list as images in a batch."""
    model = in_frame_mode(segmentor)
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm))]
    parameters = [p.requires_grad_() for m in norms for p in m.parameters()]
    source = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=0.9)
    mean, predictions, shares = torch.full((NUM_CLASSES,), 1 / NUM_CLASSES).double(), [], []
    for step, image in enumerate(images):
        view = photometric_view(image, metas, segmentor.data_preprocessor, 3 + step)
        outputs, other = (
            model.encode_decode(x, metas).permute(0, 2, 3, 1).reshape(-1, NUM_CLASSES)
            for x in (image, view)
        )
        p, q = outputs.softmax(1), other.softmax(1)
        with torch.no_grad():
            diversity = _unit(1 - F.cosine_similarity(mean[None], p))
            certainty = _unit((p * p.log()).sum(1))
            weights = torch.exp(diversity * certainty / 0.5)
            kept = diversity >= diversity.mean()
            shares.append(float(kept.double().mean()))
        clipped = p.clamp(max=0.99)
        ratio = -(clipped * torch.log(clipped / (1 - clipped) + 1e-5)).sum(1)
        agreement = -0.5 * (p * q.log()).sum(1) - 0.5 * (q * p.log()).sum(1)
        loss = ((ratio + agreement) * weights)[kept].sum() / len(p)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for parameter, start in zip(parameters, source):
                parameter.copy_(0.9 * parameter + 0.1 * start)
            prior = p.mean(0)
            mean = 0.8 * mean + 0.2 * prior
            smooth = 1 / NUM_CLASSES / prior.max()
            corrected = p * (prior + smooth) / (1 + smooth * NUM_CLASSES)
        predictions.append(corrected / corrected.sum(1, keepdim=True))
    return predictions, parameters, source, mean, shares


def test_roid_follows_the_reference(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    segmentor.double()
    expected, parameters, source, mean, shares = _reference(segmentor, images, metas)
    assert all(0.05 < share < 0.95 for share in shares), 'the filter has to leave pixels out'
    method = build_method(deepcopy(OPTIONS), segmentor).eval()
    for image, prediction, share in zip(images, expected, shares):
        logits = method.adapt(image, metas).softmax(1).permute(0, 2, 3, 1)
        assert torch.allclose(logits.reshape(-1, NUM_CLASSES), prediction, atol=1e-7)
        assert method.last_step.updated
        assert method.last_step.confident_fraction == pytest.approx(share)
    assert torch.allclose(method.mean_prediction, mean)
    for found, wanted, start in zip(method.adaptable_parameters().values(), parameters, source):
        moved = (wanted - start).abs().max()
        assert (found - wanted).abs().max() <= 1e-12 + 1e-5 * moved


def test_without_the_view_a_step_is_one_forward(segmentor, frames):
    images, metas = frames
    method = build_method({**OPTIONS, 'consistency': False}, segmentor).eval()
    runs = []
    segmentor.backbone.register_forward_hook(lambda *_: runs.append(1))
    method.adapt(images[0], metas)
    assert len(runs) == 1 and method.last_step.updated
    whole = build_method(OPTIONS, deepcopy(segmentor)).eval()
    runs.clear()
    whole.segmentor.backbone.register_forward_hook(lambda *_: runs.append(2))
    whole.adapt(images[0], metas)
    assert runs.count(2) == 3


def test_the_prior_is_an_option(segmentor, frames):
    images, metas = frames
    method = build_method({**OPTIONS, 'prior_correction': False}, segmentor).eval()
    plain = method.predict(images[0], metas)
    with torch.no_grad():
        expected = in_frame_mode(segmentor).encode_decode(images[0], metas)
    assert torch.allclose(plain, expected, atol=1e-4)
    method.prior_correction = True
    corrected = method.predict(images[0], metas).softmax(1)
    common = plain.softmax(1).mean((0, 2, 3)).argmax()
    assert corrected[:, common].mean() > plain.softmax(1)[:, common].mean()


@pytest.mark.parametrize(
    'change', [dict(source_momentum=1.5), dict(prediction_momentum=-1), dict(temperature=0)]
)
def test_wrong_options_are_refused(segmentor, change):
    with pytest.raises(ValueError, match='expected source_momentum'):
        build_method({**OPTIONS, **change}, segmentor)
