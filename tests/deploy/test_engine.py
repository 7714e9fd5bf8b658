"""Adapters outside of an exported network, against NumPy and plain autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ecotta_seg.deploy import EngineSegmentor, FeatureAlignment, OnnxSession, build_adapter
from ecotta_seg.deploy.agreement import predicted
from ecotta_seg.layers.losses import class_balanced_weights, pixel_entropy
from ecotta_seg.methods import build_method
from tests.deploy.conftest import METHODS, frame, learned, step
from tests.segmentors import build_segmentor

pytest.importorskip('onnx', reason='ONNX has no build for this Python')
pytest.importorskip('onnxruntime', reason='onnxruntime has no build for this Python')

from tests.deploy.test_export import _exported  # noqa: E402


@pytest.fixture(scope='module')
def source():
    """A model whose classifier reads channels that are alive, and is fairly sure."""
    method = learned('source', steps=0)
    norm = method.segmentor.decode_head.sep_bottleneck[1].pointwise_conv.bn
    norm.bias.data.fill_(1.0)
    norm.weight.data.fill_(2.0)
    return method


@pytest.fixture(scope='module')
def network(source, tmp_path_factory):
    """The file of a source model, with features."""
    path = tmp_path_factory.mktemp('engine') / 'network.onnx'
    _exported(path, source, features=True)
    return path


def _array(image):
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _clear():
    return [_array(frame(100 + index)) for index in range(4)]


def _hazy(index):
    return _array((frame(index).float() * 0.3 + 150).byte())


@pytest.mark.parametrize('name', ['statistics', 'entropy', None])
def test_the_first_prediction_is_the_networks_own(network, name):
    options = dict(entropy_threshold=1.0) if name == 'entropy' else {}
    segmentor = EngineSegmentor(network, name, **options)
    if name is not None:
        segmentor.calibrate(_clear())
    image = _hazy(1)
    own = OnnxSession(network).run(image.transpose(2, 0, 1)[None].astype(np.float32))['logits']
    sample = segmentor.step(image)
    assert np.array_equal(sample.seg_logits.data.numpy(), own[0])
    assert sample.pred_sem_seg.data.shape == (1, 64, 96)
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), own[0].argmax(0))
    # What was learned shows from the next frame on, and is forgotten by a reset.
    again = segmentor.predict(image).seg_logits.data.numpy()
    assert np.array_equal(again, own[0]) == (name is None)
    assert sample.metainfo['updated'] == (name is not None)
    segmentor.reset()
    assert np.array_equal(segmentor.predict(image).seg_logits.data.numpy(), own[0])
    assert (segmentor.frames, segmentor.updates) == (1, int(name is not None))


def test_without_a_calibration_nothing_is_aligned(network):
    segmentor = EngineSegmentor(network)
    assert not segmentor.step(_hazy(1)).metainfo['updated']
    before = segmentor.predict(_hazy(2)).seg_logits.data
    assert torch.equal(EngineSegmentor(network, None).predict(_hazy(2)).seg_logits.data, before)


def test_alignment_is_that_of_numpy():
    """Mean and variance of the features, channel by channel, by the formulas in the docstring."""
    torch.manual_seed(0)
    weight, eps, size = torch.randn(3, 6), 1e-5, (1, 6, 5, 7)
    spread = torch.tensor([0.5, 1, 2, 1, 1, 0.1]).view(1, -1, 1, 1)
    clear = [torch.randn(size) * spread + 0.3 * torch.randn(1, 6, 1, 1) for _ in range(5)]
    drifted = torch.tensor([1.0, 1, 1, 0.2, 0, 1]).view(1, -1, 1, 1)
    seen = [torch.randn(size) * (spread + 0.5 * drifted) + spread * drifted for _ in range(3)]
    adapter = FeatureAlignment(weight, drift_weight=3.0, tolerance=1.5, momentum=0.5)
    adapter.calibrate(clear)
    for x in seen[:2]:
        assert adapter.learn(x, torch.zeros(1, 3, 5, 7))
    logits = torch.randn(1, 3, 5, 7)
    found = adapter.added(seen[2], logits, False)

    clear, seen = ([x[0].flatten(1).double().numpy() for x in maps] for maps in (clear, seen))
    clear_mean = np.mean([x.mean(1) for x in clear], 0)
    clear_var = np.mean([(x**2).mean(1) for x in clear], 0) - clear_mean**2

    def drift(mean, var):
        ratio = (var + eps) / (clear_var + eps)
        return 0.5 * ((mean - clear_mean) ** 2 / (clear_var + eps) + ratio - 1 - np.log(ratio))

    usual = np.mean([drift(x.mean(1), x.var(1)) for x in clear], 0)
    apart = seen[1].mean(1) - seen[0].mean(1)
    mean = seen[0].mean(1) + 0.5 * apart
    var = 0.5 * seen[0].var(1) + 0.5 * seen[1].var(1) + 0.25 * apart**2
    share = 1 - np.exp(-3.0 * np.maximum(0, drift(mean, var) - 1.5 * usual))
    assert share.min() < 0.5 < share.max()
    mean = clear_mean + share * (mean - clear_mean)
    scale = np.sqrt((clear_var + eps) / (clear_var + share * (var - clear_var) + eps))
    aligned = (seen[2] - mean[:, None]) * scale[:, None] + clear_mean[:, None]
    change = weight.double().numpy() @ (aligned - seen[2])
    expected = logits[0].flatten(1).double().numpy() + change
    assert np.abs(change).max() > 1
    np.testing.assert_allclose(found[0].flatten(1).numpy(), expected, atol=1e-4)


def test_entropy_is_that_of_plain_autograd(network, source):
    """SGD on the classifier's own weights in torch, with the same unit of the features."""
    lr = 0.5
    segmentor = EngineSegmentor(network, 'entropy', lr=lr, entropy_threshold=0.9)
    segmentor.calibrate(_clear())
    session = OnnxSession(network)

    def run(image):
        found = session.run(image.transpose(2, 0, 1)[None].astype(np.float32))
        return {name: torch.from_numpy(value) for name, value in found.items()}

    clear = torch.cat([run(image)['features'][0].flatten(1) for image in _clear()], 1)
    mean, std = clear.mean(1), clear.std(1)
    std = std.maximum(0.1 * std.mean())
    weight = torch.zeros(7, len(mean), requires_grad=True)
    bias = torch.zeros(7, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=lr)

    def change(features):
        unit = (features - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1) / len(mean) ** 0.5
        return torch.einsum('kc,nchw->nkhw', weight, unit) + bias.view(1, -1, 1, 1)

    for index in range(3):
        segmentor.step(_hazy(index))
        seen = run(_hazy(index))
        small = F.interpolate(seen['logits'], seen['features'].shape[2:], mode='bilinear')
        logits = small + change(seen['features'])
        entropy = pixel_entropy(logits)
        weights = class_balanced_weights(entropy.detach(), logits.detach(), 0.9 * np.log(7), 0.5)
        optimizer.zero_grad()
        (weights * entropy).sum().backward()
        optimizer.step()
    assert weight.abs().max() > 1e-3
    torch.testing.assert_close(segmentor.adapter.weight, weight, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(segmentor.adapter.bias, bias, atol=1e-5, rtol=1e-3)


def test_what_was_learned_is_kept(network, tmp_path):
    segmentor, other = EngineSegmentor(network), EngineSegmentor(network)
    segmentor.calibrate(_clear())
    segmentor.step(_hazy(1))
    segmentor.save_adapter(tmp_path / 'a.pth')
    other.load_adapter(tmp_path / 'a.pth')
    expected = segmentor.predict(_hazy(2)).seg_logits.data
    assert torch.equal(other.predict(_hazy(2)).seg_logits.data, expected)
    with pytest.raises(
        ValueError, match="to the adapter 'statistics', but this segmentor has 'entropy'"
    ):
        EngineSegmentor(network, 'entropy').load_adapter(tmp_path / 'a.pth')
    another = EngineSegmentor(network)
    another.engine.classifier = another.engine.classifier + 1
    with pytest.raises(ValueError, match='was learned with another network'):
        another.load_adapter(tmp_path / 'a.pth')
    assert another.adapter.residual() is None
    (tmp_path / 'a.pth').write_bytes(b'half')
    with pytest.raises(ValueError, match='damaged or not a file that save_adapter wrote'):
        other.load_adapter(tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a.pt does not exist'):
        other.load_adapter(tmp_path / 'a.pt')


def test_bad_frames_and_options(network, source, tmp_path):
    segmentor = EngineSegmentor(network)
    segmentor.calibrate(_clear())
    sample = segmentor.step(np.zeros((64, 96, 3), np.uint8))
    assert not sample.metainfo['updated'] and 'black' in sample.metainfo['frame_fault']
    assert segmentor.events[0]['event'] == 'bad_frame' and segmentor.updates == 0
    with pytest.raises(TypeError, match='a frame as a NumPy array, got list'):
        segmentor.step([0])
    with pytest.raises(ValueError, match=r'dtype uint8, got \(64, 96\) uint8'):
        segmentor.step(np.zeros((64, 96), np.uint8))
    with pytest.raises(ValueError, match=r"expected a frame of shape \(1, 3, 'height', 'width'\)"):
        segmentor.step(np.zeros((64, 96, 4), np.uint8))
    with pytest.raises(ValueError, match="expected an adapter from .*, got 'prototypes'"):
        EngineSegmentor(network, 'prototypes')
    with pytest.raises(ValueError, match="has no option 'rate'"):
        EngineSegmentor(network, 'entropy', rate=1)
    with pytest.raises(ValueError, match='expected lr and entropy_threshold above 0'):
        EngineSegmentor(network, 'entropy', lr=0)
    with pytest.raises(ValueError, match='some clear frames to calibrate'):
        segmentor.calibrate([])
    _exported(tmp_path / 'n.onnx', source, fixed_size=True)
    with pytest.raises(ValueError, match='gives only logits.*export it with --features'):
        EngineSegmentor(tmp_path / 'n.onnx')


def test_a_stream_scores_the_same_predictions(network):
    options = dict(type='around_engine', onnx=str(network), adapter='statistics')
    method = build_method(options, build_segmentor('deeplab', shallow=True)).eval()
    segmentor = EngineSegmentor(network)
    clear = [frame(100 + index) for index in range(4)]
    batches = [method.segmentor.data_preprocessor(dict(inputs=[f]), False) for f in clear]
    method.calibrate_all([(batch['inputs'], [{}]) for batch in batches])
    segmentor.calibrate(_clear())
    for index in range(3):
        image = _hazy(index)
        expected = segmentor.step(image).seg_logits.data
        found = step(method, torch.from_numpy(image).permute(2, 0, 1))
        assert torch.equal(found.seg_logits.data, expected)
        assert method.last_step.updated
    state = method.method_state()
    last = predicted(method, torch.from_numpy(image).permute(2, 0, 1))
    method.reset()
    assert not torch.equal(predicted(method, torch.from_numpy(image).permute(2, 0, 1)), last)
    method.load_method_state(state)
    assert torch.equal(predicted(method, torch.from_numpy(image).permute(2, 0, 1)), last)


def test_an_engine_of_other_classes_is_refused(network):
    segmentor = build_segmentor('deeplab', shallow=True)
    segmentor.out_channels = 5
    with pytest.raises(ValueError, match='to another network: it has 7 classes, and .* has 5'):
        build_method(dict(type='around_engine', onnx=str(network)), segmentor)


def test_a_network_with_as_many_classes_is_another_one(network):
    segmentor = build_segmentor('deeplab', shallow=True)
    options = dict(type='around_engine', onnx=str(network))
    build_method(options, segmentor)
    weight = segmentor.decode_head.conv_seg.weight
    with torch.no_grad():
        weight.copy_(weight.half() * 1.01)
    build_method(options, segmentor)
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(5)))
    with pytest.raises(ValueError, match='classifier is not that of the checkpoint'):
        build_method(options, segmentor)


def test_an_alignment_without_drift_changes_nothing():
    torch.manual_seed(0)
    features = [torch.randn(1, 5, 8, 8) for _ in range(4)]
    adapter = FeatureAlignment(torch.randn(3, 5), tolerance=100.0)
    adapter.calibrate(features)
    assert adapter.learn(features[0], torch.zeros(1, 3, 8, 8))
    logits = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(adapter.added(features[0], logits, False), logits)
    assert METHODS and isinstance(build_adapter('statistics', torch.eye(3)), FeatureAlignment)
