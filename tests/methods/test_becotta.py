"""BECoTTA against a plain step: experts of torch's layers that hooks add to a stock backbone."""

from copy import deepcopy
from itertools import accumulate
from math import log

import pytest
import torch
from torch import nn

from ecotta_seg.meta_networks import save_adapters
from ecotta_seg.methods import build_method
from tests.segmentors import NUM_CLASSES, build_segmentor

LR = 0.05
OPTIONS = dict(
    type='becotta',
    meta_networks=dict(num_parts=3, experts=4, top=2, reduction=8, domains=('clear', 'night')),
    optimizer=dict(type='SGD', lr=LR, momentum=0.9),
    seed=5,
)
# Of each network: some pixels are below, others above.
THRESHOLDS = {'deeplab': 0.87, 'segformer': 0.1}


class _Mixture(nn.Module):
    """The experts of a part, and one router for each of two domains."""

    def __init__(self, layer):
        super().__init__()
        (count, rank, channels), self.domain = layer.down.shape, 0
        self.experts, self.routers = nn.ModuleList(), nn.ModuleList()
        for index in range(count):
            down, up = nn.Conv2d(channels, rank, 1), nn.Conv2d(rank, channels, 1)
            self.experts.append(nn.Sequential(down, nn.GELU(), up).double())
            for found, own in (
                (down.weight, layer.down), (down.bias, layer.down_bias),
                (up.weight, layer.up), (up.bias, layer.up_bias),
            ):  # fmt: skip
                found.data = own[index].detach().clone().view(found.shape)
        for weight in layer.route:
            self.routers.append(nn.Linear(channels, count, bias=False).double())
            self.routers[-1].weight.data = weight.detach().clone()

    def forward(self, module, args, output):
        """A hook on a block; a transformer's block has tokens."""
        tokens = output.dim() == 3
        x = output.transpose(1, 2).unsqueeze(3) if tokens else output
        logits = self.routers[self.domain](x.mean(dim=(2, 3)))[0]
        best = logits.argsort(descending=True)[:2]
        weights = logits[best].exp() / logits[best].exp().sum()
        for weight, index in zip(weights, best.tolist()):
            x = x + weight * self.experts[index](
                output.transpose(1, 2).unsqueeze(3) if tokens else output
            )
        return x.squeeze(3).transpose(1, 2) if tokens else x


def _blocks(backbone):
    if hasattr(backbone, 'layers'):
        return [block for stage in backbone.layers for block in stage[1]]
    return [block for i in range(1, 5) for block in getattr(backbone, f'layer{i}')]


def _reference(segmentor, encoder, images, metas, threshold):
    segmentor.requires_grad_(False)
    blocks, mixtures = _blocks(segmentor.backbone), []
    for stop, layer in zip(accumulate(encoder.split), encoder.meta_networks):
        mixtures.append(_Mixture(layer))
        blocks[stop - 1].register_forward_hook(mixtures[-1])
    optimizer = torch.optim.SGD(
        [p for mixture in mixtures for p in mixture.parameters()], lr=LR, momentum=0.9
    )
    predictions, shares = [], []
    for step, image in enumerate(images):
        for mixture in mixtures:
            mixture.domain = step % 2
        logits = segmentor.encode_decode(image, metas)
        predictions.append(logits.detach())
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        confident = entropy < threshold * log(NUM_CLASSES)
        shares.append(float(confident.double().mean()))
        # As in torch 1.7: experts that are not chosen keep their momentum.
        optimizer.zero_grad(set_to_none=False)
        entropy[confident].mean().backward()
        optimizer.step()
    return predictions, shares, mixtures


def _in_turn(images):
    """Clear and dark frames in turn."""
    return [0.3 * image - 1.5 if i % 2 else image for i, image in enumerate(images)]


def _measure(method, images, metas):
    """The classifier of domains: frames are clear and night in turn."""
    first = method.encoder.meta_networks[0]
    with method.encoder.recording() as parts, torch.no_grad():
        for image in images:
            method.segmentor.encode_decode(image, metas)
    features = torch.cat([parts[i].frozen for i in range(0, len(parts), 3)]).flatten(2)
    domains = torch.arange(len(images)) % 2
    first.classifier.measure(features, domains)
    assert torch.equal(first.classifier(features), domains)


@pytest.mark.parametrize('kind', sorted(THRESHOLDS))
def test_becotta_follows_the_reference(kind, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    images = _in_turn(images)
    segmentor = build_segmentor(kind).double()
    plain = deepcopy(segmentor)
    options = dict(OPTIONS, entropy_threshold=THRESHOLDS[kind])
    method = build_method(deepcopy(options), segmentor).eval()
    assert torch.equal(method.predict(images[0], metas), plain.encode_decode(images[0], metas))
    _measure(method, images, metas)
    expected, shares, mixtures = _reference(plain, method.encoder, images, metas, THRESHOLDS[kind])
    assert any(0 < share < 1 for share in shares) and all(shares)
    assert torch.equal(method.predict(images[0], metas), expected[0])
    for image, prediction, share in zip(images, expected, shares):
        assert torch.allclose(method.adapt(image, metas), prediction, 1e-6, 1e-8)
        assert method.last_step.updated and abs(method.last_step.confident_fraction - share) < 1e-6
    moved = False
    for layer, mixture in zip(method.encoder.meta_networks, mixtures):
        for index, expert in enumerate(mixture.experts):
            assert torch.allclose(layer.up[index], expert[2].weight[:, :, 0, 0], 1e-5, 1e-9)
            assert torch.allclose(layer.down[index], expert[0].weight[:, :, 0, 0], 1e-5, 1e-9)
        for domain, router in enumerate(mixture.routers):
            assert torch.allclose(layer.route[domain], router.weight, 1e-5, 1e-9)
        moved = moved or layer.up.abs().max() > 1e-4
    assert moved
    assert not torch.allclose(method.predict(images[0], metas), expected[0], atol=1e-3)


def test_experts_of_a_file_are_those_of_the_stream(frames, tmp_path):
    images, metas = frames
    method = build_method(deepcopy(OPTIONS), build_segmentor('segformer')).eval()
    torch.manual_seed(2)
    for parameter in method.encoder.meta_networks.parameters():
        nn.init.normal_(parameter, std=0.1)
    _measure(method, _in_turn(images), metas)
    save_adapters(method.encoder, tmp_path / 'adapters.pth')
    loaded = build_method(
        dict(deepcopy(OPTIONS), adapters=str(tmp_path / 'adapters.pth'), seed=6),
        build_segmentor('segformer'),
    ).eval()
    for image in _in_turn(images)[:2]:
        expected = method.predict(image, metas)
        assert torch.equal(loaded.predict(image, metas), expected)
        assert not torch.equal(build_segmentor('segformer').encode_decode(image, metas), expected)


@pytest.mark.parametrize(('change', 'text'), [
    (dict(entropy_threshold=0), 'expected entropy_threshold above 0'),
    (dict(meta_networks=dict(norm='BN')), 'meta_networks'),
    (dict(meta_networks=dict(layer=nn.Identity)), 'meta_networks'),
])  # fmt: skip
def test_wrong_options_are_refused(segmentor, change, text):
    with pytest.raises(ValueError, match=text):
        build_method({**OPTIONS, **change}, segmentor)
