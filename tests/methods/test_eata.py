"""EATA against the published update, written out for a list of pixels."""

from math import exp, log

import pytest
import torch
from torch import nn

from ecotta_seg.layers.fisher import read_fisher, write_fisher
from ecotta_seg.methods import build_method
from tests.segmentors import NUM_CLASSES, build_segmentor, in_frame_mode

E0, D, ALPHA, LR = 0.75 * log(NUM_CLASSES), 0.6, 50.0, 1e-2
OPTIONS = dict(
    type='eata',
    optimizer=dict(type='SGD', lr=LR),
    entropy_threshold=0.75,
    redundancy_threshold=D,
    fisher_weight=ALPHA,
    fisher_frames=2,
)


def _reference(segmentor, images, metas):
    """Pixel by pixel; the information of the first two frames, as they are adapted to."""
    model = in_frame_mode(segmentor)
    norms = [m for m in model.modules() if isinstance(m, (nn.BatchNorm2d, nn.LayerNorm))]
    parameters = [p.requires_grad_() for m in norms for p in m.parameters()]
    source = [p.detach().clone() for p in parameters]
    fisher, frames, mean = [torch.zeros_like(p) for p in parameters], 0, None
    predictions, shares = [], []
    for image in images:
        logits = model.encode_decode(image, metas)
        predictions.append(logits.detach())
        pixels = logits.permute(0, 2, 3, 1).reshape(-1, NUM_CLASSES)
        if frames < 2:
            nll = -pixels.log_softmax(1).gather(1, pixels.argmax(1, keepdim=True)).mean()
            gradients = torch.autograd.grad(nll, parameters, retain_graph=True, allow_unused=True)
            fisher = [f if g is None else f + g**2 for f, g in zip(fisher, gradients)]
            frames += 1
        p = pixels.softmax(1)
        entropy = -(p * p.log()).sum(1)
        kept = [i for i in range(len(p)) if entropy[i] < E0]
        if mean is not None:
            cosine = (p @ mean) / (p.norm(dim=1) * mean.norm())
            kept = [i for i in kept if abs(cosine[i]) < D]
        shares.append(len(kept) / len(p))
        loss = sum(
            entropy[kept]
            * torch.tensor(
                [exp(E0 - float(entropy[i].detach())) for i in kept], dtype=torch.float64
            )
        ) / len(kept)
        for f, parameter, start in zip(fisher, parameters, source):
            loss = loss + ALPHA * (f / frames * (parameter - start) ** 2).sum()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                if gradient is not None:
                    parameter -= LR * gradient
            new = p[kept].mean(0)
            mean = new if mean is None else 0.9 * mean + 0.1 * new
    return predictions, shares, parameters, source


def test_eata_follows_the_reference(segmentor, frames):
    images, metas = frames
    images = [image[:, :, :33, :41].double() for image in images]
    segmentor.double()
    metas = [dict(img_shape=(33, 41), ori_shape=(33, 41))]
    expected, shares, parameters, source = _reference(segmentor, images, metas)
    method = build_method(OPTIONS, segmentor).eval()
    for image, logits, share in zip(images, expected, shares):
        assert torch.allclose(method.adapt(image, metas), logits, atol=1e-8)
        assert method.last_step.confident_fraction == pytest.approx(share)
        assert method.last_step.updated
    assert shares[0] > shares[1] > 0, 'redundant pixels are left out from the second frame on'
    assert method.last_step.regularisation > 0
    for found, wanted, start in zip(method.adaptable_parameters().values(), parameters, source):
        moved = (wanted - start).abs().max()
        assert (found - wanted).abs().max() <= 1e-12 + 1e-6 * moved


def test_the_regulariser_holds_what_matters(frames):
    images, metas = frames
    free = build_method({**OPTIONS, 'fisher_weight': 0.0}, build_segmentor('deeplab'))
    held = build_method({**OPTIONS, 'fisher_weight': 300.0}, build_segmentor('deeplab'))

    for method in (free, held):
        for image in images:
            method.adapt(image, metas)

    def distance(method):
        return sum(
            float((held._fisher[name] * (p - method._initial[name]).square()).sum())
            for name, p in method.adaptable_parameters().items()
        )

    assert 0 < distance(held) < 0.8 * distance(free)
    assert int(free.fisher_frames_seen) == 0 and int(held.fisher_frames_seen) == 2


def test_information_of_source_frames_by_a_file(frames, tmp_path):
    images, metas = frames
    method = build_method(OPTIONS, build_segmentor('deeplab'))
    before = {n: p.detach().clone() for n, p in method.adaptable_parameters().items()}
    information = method.fisher_information((image, metas) for image in images[:3])
    assert all(torch.equal(p, before[n]) for n, p in method.adaptable_parameters().items())
    write_fisher(information, tmp_path / 'fisher.pth')
    given = build_method(
        {**OPTIONS, 'fisher': str(tmp_path / 'fisher.pth')}, build_segmentor('deeplab')
    )
    for image in images[:3]:
        given.adapt(image, metas)
    assert all(torch.equal(given._fisher[name], information[name]) for name in information)
    given.reset()
    assert all(torch.equal(given._fisher[name], information[name]) for name in information)

    other = build_method({'type': 'eata', 'optimizer': OPTIONS['optimizer']},
                         build_segmentor('segformer'))  # fmt: skip
    with pytest.raises(ValueError, match='is of another model'):
        read_fisher(tmp_path / 'fisher.pth', other.adaptable_parameters())
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'fisher.pth').read_bytes()[:200])
    for path, words in ((tmp_path / 'cut.pth', 'damaged'), (tmp_path / 'no.pth', 'not exist')):
        with pytest.raises(ValueError, match=words):
            build_method({**OPTIONS, 'fisher': str(path)}, build_segmentor('deeplab'))


def test_wrong_options_are_refused(segmentor):
    with pytest.raises(ValueError, match='entropy_threshold above 0'):
        build_method({**OPTIONS, 'fisher_weight': -1.0}, segmentor)
