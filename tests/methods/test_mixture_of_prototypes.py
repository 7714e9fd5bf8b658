"""Mixture of Prototypes against a plain version of its calibration, mix and step."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.methods import build_method
from tests.segmentors import build_segmentor

LR, SHARE, TEMPERATURE, WEIGHT, EXPERTS = 0.5, 0.4, 0.2, 0.3, 2
OPTIONS = dict(
    type='mixture_of_prototypes',
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    experts=EXPERTS,
    temperature=TEMPERATURE,
    source_share=SHARE,
    selection_weight=WEIGHT,
)


def _k_means(points):
    """Two clusters: from the point nearest to the mean and the point farthest from that one."""
    first = points[np.linalg.norm(points - points.mean(0), axis=1).argmin()]
    centres = [first, points[np.linalg.norm(points - first, axis=1).argmax()]]
    for _ in range(20):
        nearer = np.linalg.norm(points[:, None] - np.stack(centres), axis=2).argmin(1)
        centres = [points[nearer == k].mean(0) for k in range(2)]
    return centres if (nearer == 0).sum() >= (nearer == 1).sum() else centres[::-1]


class _Reference:
    """The method in a few lines, on a plain copy of the model."""

    def __init__(self, segmentor, images):
        self.model, self.seen = deepcopy(segmentor).requires_grad_(False), []
        classifier = self.model.decode_head.conv_seg
        classifier.register_forward_pre_hook(lambda module, args: self.seen.append(args[0]))
        classes, channels = classifier.weight.shape[:2]
        frames = []
        for image in images:
            features = self.features(image)[0].numpy()
            labels = classifier(self.seen[-1])[0].argmax(0).numpy()
            frames.append({c: features[:, labels == c].mean(1) for c in np.unique(labels)})
        self.known = sorted({c for frame in frames for c in frame})
        self.prototypes = torch.zeros(EXPERTS, classes, channels).double()
        for c in self.known:
            points = np.stack([frame[c] for frame in frames if c in frame])
            centres = _k_means(points) if len(points) > 1 else [points[0], points[0]]
            self.prototypes[:, c] = torch.from_numpy(np.stack(centres))
        self.weight = torch.zeros(EXPERTS, EXPERTS * classes).double().requires_grad_(True)
        self.bias = torch.zeros(EXPERTS).double().requires_grad_(True)
        self.optimizer = torch.optim.SGD([self.weight, self.bias], LR, momentum=0.9)

    def features(self, image):
        with torch.no_grad():
            self.model.encode_decode(image, [dict(img_shape=image.shape[2:])])
        return self.seen[-1]

    def step(self, image):
        x = self.features(image)
        source = self.model.decode_head.conv_seg(x)[0].softmax(0)
        cosines = torch.stack(
            [
                F.cosine_similarity(x[0], p[:, None, None], dim=0)
                for p in self.prototypes.flatten(0, 1)
            ]
        )
        gate = (torch.tensordot(self.weight, cosines, 1) + self.bias[:, None, None]).softmax(0)
        of_experts = cosines.unflatten(0, (EXPERTS, -1))[:, self.known] / TEMPERATURE
        shares = (gate[:, None] * of_experts.softmax(1)).sum(0) * source[self.known].sum(0)
        experts = source.clone()
        experts[self.known] = shares
        mixed = (SHARE * source + (1 - SHARE) * experts).log()[None]
        logits = F.interpolate(mixed, image.shape[2:], mode='bilinear', align_corners=False)
        log_p = logits.log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        selection = gate.mean((1, 2))
        loss = entropy + WEIGHT * (selection * selection.log()).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return logits.detach(), float(loss.detach()), float(entropy.detach())


def _calibrated(segmentor, images, metas, **options):
    method = build_method({**deepcopy(OPTIONS), **options}, segmentor).eval()
    method.calibrate_all([(image, metas) for image in images])
    return method


def test_ten_frames_follow_the_reference(segmentor, frames):
    # Loud frames, so that the features of a tiny model differ from pixel to pixel.
    images, metas = [image.double() * (10 + 5 * i) for i, image in enumerate(frames[0])], frames[1]
    segmentor.double()
    with torch.no_grad():
        bias = segmentor.decode_head.conv_seg.bias
        bias -= segmentor.inference(images[2], metas).mean((0, 2, 3))
        # A class that is never found.
        bias[6] = -200.0
    reference = _Reference(segmentor, images[:5])
    method = _calibrated(segmentor, images[:5], metas)
    assert method.experts.known.nonzero().flatten().tolist() == reference.known
    assert 2 < len(reference.known) < 7
    assert torch.allclose(method.experts.prototypes, reference.prototypes)
    for image in images:
        logits, loss, entropy = reference.step(image)
        assert torch.allclose(method.adapt(image, metas), logits, atol=1e-9)
        assert method.last_step.updated
        assert method.last_step.loss == pytest.approx(loss)
        assert method.last_step.entropy == pytest.approx(entropy)
    assert reference.weight.abs().max() > 1e-3
    assert torch.allclose(method.experts.gate_weight, reference.weight, 1e-7, 1e-10)
    assert torch.allclose(method.experts.gate_bias, reference.bias, 1e-7, 1e-10)


def test_nothing_but_the_gate_learns_and_no_gradient_enters_the_network(segmentor, frames):
    images, metas = frames
    source = {name: t.clone() for name, t in segmentor.state_dict().items()}
    method = _calibrated(segmentor, images[:2], metas)
    gate = {f'decode_head.conv_seg.gate_{part}' for part in ('weight', 'bias')}
    assert set(method.adaptable_parameters()) == set(method.adapter_parameters()) == gate
    seen = []
    method.experts.register_forward_hook(lambda m, x, y: seen.append((x[0], y)))
    method.adapt(images[0], metas)
    assert [(x.requires_grad, y.requires_grad) for x, y in seen] == [(False, True)]
    found = segmentor.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in source.items())


def test_a_saved_state_has_the_prototypes(frames):
    images, metas = frames
    method = _calibrated(build_segmentor('deeplab'), images[:3], metas)
    method.adapt(images[3], metas)
    fresh = build_method(deepcopy(OPTIONS), build_segmentor('deeplab')).eval()
    fresh.load_method_state(method.method_state())
    assert torch.equal(fresh.adapt(images[4], metas), method.adapt(images[4], metas))
    again = build_method(deepcopy(OPTIONS), build_segmentor('deeplab')).eval()
    assert again.take_calibration(method.calibration())
    assert torch.equal(again.experts.prototypes, method.experts.prototypes)
    again.adapt(images[0], metas)


def test_a_larger_share_of_the_source_is_nearer_to_the_source(frames):
    images, metas = frames
    source = build_segmentor('segformer').inference(images[4], metas).softmax(1).detach()
    distances = []
    for share in (0.0, 0.5, 0.9):
        method = _calibrated(build_segmentor('segformer'), images[:3], metas, source_share=share)
        distances.append(float((method.predict(images[4], metas).softmax(1) - source).abs().mean()))
    assert distances == sorted(distances, reverse=True) and distances[-1] > 0


def test_without_clear_frames_it_predicts_as_the_source_and_refuses_to_learn(frames):
    images, metas = frames
    method = build_method(deepcopy(OPTIONS), build_segmentor('deeplab')).eval()
    expected = build_segmentor('deeplab').inference(images[0], metas).softmax(1)
    assert torch.allclose(method.predict(images[0], metas).softmax(1), expected, atol=1e-5)
    with pytest.raises(ValueError, match='expected clear frames.*--calibrate DIR'):
        method.adapt(images[0], metas)
    with pytest.raises(ValueError, match='expected clear frames.*--calibrate DIR'):
        method.calibrate_all(())


def test_a_head_that_does_not_run_its_classifier_is_refused(frames):
    images, metas = frames
    segmentor = build_segmentor('deeplab')
    segmentor.decode_head.cls_seg = torch.nn.Conv2d(8, 7, 1).forward
    with pytest.raises(ValueError, match='that runs its classifier conv_seg, but Depthwise'):
        _calibrated(segmentor, images[:1], metas)


def test_a_classifier_that_sees_neighbours_is_refused():
    segmentor = build_segmentor('deeplab')
    segmentor.decode_head.conv_seg = torch.nn.Conv2d(8, 7, 3, padding=1)
    with pytest.raises(ValueError, match='whose classifier is a 1x1 convolution conv_seg'):
        build_method(deepcopy(OPTIONS), segmentor)


@pytest.mark.parametrize(
    'change',
    [dict(experts=0), dict(temperature=0), dict(source_share=1.0), dict(selection_weight=-1)],
)
def test_wrong_options_are_refused(segmentor, change):
    with pytest.raises(ValueError, match='expected experts from 1'):
        build_method({**OPTIONS, **change}, segmentor)
