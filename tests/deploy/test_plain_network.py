import pytest
import torch
from torch import nn

from ecotta_seg.deploy import PlainNetwork
from ecotta_seg.deploy.agreement import predicted
from ecotta_seg.deploy.folding import fold_norms
from ecotta_seg.methods import build_method
from tests.deploy.conftest import METHODS, frame, learned
from tests.segmentors import build_segmentor

SIZES = ((64, 96), (90, 70), (264, 258))


def _plain(method, **options):
    return PlainNetwork(method, frame(0)[None].float(), **options)


@torch.no_grad()
def _difference(network, method, image, **options):
    expected = predicted(method, image, **options)
    found = network(image[None].float())
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        *((name, 'deeplab') for name in METHODS),
        *((name, 'segformer') for name in ('source', 'tent', 'ladder', 'plus')),
    ],
)
def test_it_predicts_as_the_method_would_next(name, kind):
    method = learned(name, kind)
    before = {key: tensor.clone() for key, tensor in method.learned_tensors().items()}
    network = _plain(method)
    for index, size in enumerate(SIZES):
        assert _difference(network, method, frame(10 + index, size)) < 1e-5
    assert _difference(network, method, frame(20, light=0.2)) < 1e-5
    for key, tensor in method.learned_tensors().items():
        assert torch.equal(tensor, before[key]), key


def test_the_gate_gives_the_methods_strength(monkeypatch):
    method = learned('plus')
    strengths, gate = [], type(method.shift_gate).strength
    monkeypatch.setattr(
        type(method.shift_gate), 'strength', lambda *given: strengths.append(gate(*given)) or 0.5
    )
    network = _plain(method)
    for index, size in enumerate(SIZES):
        image = frame(30 + index, size)
        predicted(method, image)
        with torch.no_grad():
            network(image[None].float())
        assert float(network.shared.strength) == pytest.approx(strengths[-1], rel=1e-4)
    assert all(0.01 < strength < 0.99 for strength in strengths), strengths


def test_a_strength_takes_the_place_of_the_gate():
    method = learned('plus')
    network, without = _plain(method, strength=0.3), _plain(method, strength=0.0)
    assert network.gate_in_float32 is None and network.kept == 2
    assert (without.kept, without.left_out) == (0, 2)
    assert _difference(network, method, frame(5), strength=0.3) < 1e-5
    assert _difference(without, method, frame(5), strength=0.0) < 1e-5
    assert _difference(network, method, frame(5), strength=0.0) > 1e-3
    method = learned('drift')
    assert _difference(_plain(method, strength=0.3), method, frame(5), strength=0.3) < 1e-5


@pytest.mark.parametrize('name', ['plus', 'drift'])
def test_meta_networks_that_change_nothing_are_left_out(name):
    method = build_method(METHODS[name], build_segmentor('deeplab', shallow=True)).eval()
    network = _plain(method)
    assert (network.kept, network.left_out, network.gate_in_float32) == (0, 2, None)
    assert _difference(network, method, frame(3)) < 1e-5


@pytest.mark.parametrize('name', ['source', 'paper', 'frame'])
def test_folded_is_unfolded(name):
    method = learned(name)
    folded, unfolded = _plain(method), _plain(method, fold=False)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in unfolded.modules())
    left = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    # The pool of the image has no statistics of its own, so that one norm is always folded.
    assert folded.folded == norms - left > 0 and unfolded.folded == 0
    assert left == 0 and (name == 'frame') == (norms == 1)
    image = frame(7)[None].float()
    with torch.no_grad():
        expected, found = unfolded(image), folded(image)
    assert name == 'frame' or not torch.equal(found, expected)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


class _Toy(nn.Module):
    """Convolutions whose norms may be folded, and others."""

    def __init__(self):
        super().__init__()
        self.free, self.free_norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.read_twice, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
        self.sometimes, self.last_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        x = self.free_norm(self.free(x))
        y = self.read_twice(x)
        x = self.norm(y) + y
        x = self.norms[0](self.shared(x)) + self.norms[1](self.shared(x))
        return self.last_norm(self.sometimes(x)) + self.sometimes(torch.relu(x))


def test_only_what_a_norm_alone_reads_is_folded():
    torch.manual_seed(0)
    toy = _Toy().eval()
    for module in toy.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.normal_()
    x = torch.randn(1, 3, 8, 8)
    expected = toy(x)
    assert fold_norms(toy, x) == 1
    assert isinstance(toy.free_norm, nn.Identity) and not isinstance(toy.norm, nn.Identity)
    torch.testing.assert_close(toy(x), expected)


def test_features_are_what_the_classifier_reads():
    method = learned('plus')
    logits, features = _plain(method, features=True)(frame(4)[None].float())
    head = method.segmentor.decode_head
    small = nn.functional.conv2d(features, head.conv_seg.weight, head.conv_seg.bias)
    resized = nn.functional.interpolate(small, logits.shape[2:], mode='bilinear')
    torch.testing.assert_close(resized, logits, atol=1e-4, rtol=1e-4)


def test_what_is_no_single_forward_is_refused():
    sliding = build_segmentor(
        'deeplab', shallow=True, mode='slide', crop_size=(32, 32), stride=(32, 32)
    )
    refused = [
        (build_method(METHODS['source'], sliding), {}, 'sliding windows'),
        (learned('cotta', steps=0, views=2), {}, 'average over 2 views'),
        (learned('source', steps=0, views=2), {}, 'one view, but the config asks for 2'),
        (learned('plus', steps=0), dict(strength=1.5), 'strength from 0 to 1, got 1.5'),
        (learned('tent', steps=0), dict(strength=0.5), 'leave out --strength'),
        (learned('paper', steps=0), dict(strength=0.5), 'leave out --strength'),
    ]
    for name, text in [
        ('roid', 'a prior of each frame'), ('rotta', 'statistics of the'),
        ('svdp', 'a prompt with a place'), ('vida', 'adapters that each frame weighs'),
        ('becotta', 'experts that each frame chooses'),
    ]:  # fmt: skip
        config = dict(type=name, optimizer=dict(type='SGD', lr=0.1))
        own = dict(svdp=dict(views=1), becotta=dict(meta_networks=dict(num_parts=2)))
        config.update(own.get(name, {}))
        refused.append((build_method(config, build_segmentor('deeplab', shallow=True)), {}, text))
    for method, options, text in refused:
        with pytest.raises(ValueError, match=text):
            _plain(method.eval(), **options)


def test_a_method_inside_another_is_found():
    assert type(learned('law', steps=0)).__name__ == 'Tent'


def test_features_of_a_classifier_that_mixes_experts_are_refused():
    method = learned('prototypes', steps=0)
    with pytest.raises(ValueError, match='mixes them with prototypes: leave out --features'):
        _plain(method, features=True)
    _plain(method)
