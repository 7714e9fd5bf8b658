"""Exported files against the method in torch, by onnxruntime and by torch.export."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from ecotta_seg.deploy import OnnxSession, export, export_network
from ecotta_seg.deploy.agreement import predicted
from tests.deploy.conftest import METHODS, frame, learned
from tests.segmentors import NUM_CLASSES, build_segmentor

onnx = pytest.importorskip('onnx', reason='ONNX has no build for this Python')
pytest.importorskip('onnxruntime', reason='onnxruntime has no build for this Python')


def _frames(count=3):
    return [frame(40 + index, light=1 - 0.3 * index) for index in range(count)]


def _exported(path, method, **options):
    names = [f'class {number}' for number in range(NUM_CLASSES)]
    said = dict(classes=names, palette=[[0, 0, number] for number in range(NUM_CLASSES)])
    return export_network(method, path, _frames(), description=said, **options)


@pytest.fixture(scope='module')
def plus(tmp_path_factory):
    """A method with a gate, and its file with features."""
    method, path = learned('plus'), tmp_path_factory.mktemp('plus') / 'network.onnx'
    return method, path, _exported(path, method, features=True)


@pytest.mark.slow
def test_twenty_frames_of_several_sizes(plus):
    method, path, exported = plus
    assert exported.agreement.frames == 3 and exported.agreement.sizes == 3
    assert exported.size == path.stat().st_size
    session = OnnxSession(path)
    sizes = ((64, 96), (80, 112), (256, 320), (336, 256), (512, 64))
    for index in range(20):
        image = frame(index, sizes[index % len(sizes)], light=1 - 0.04 * index)
        found = session.run(image[None].float().numpy())
        expected = predicted(method, image).numpy()
        assert found['logits'].shape == expected.shape
        assert np.abs(found['logits'] - expected).max() < 1e-5 * np.abs(expected).max()
    # Where the resize of the logits is by no whole number, its rounding is in both.
    image = frame(21, (71, 259))
    expected = predicted(method, image).numpy()
    found = session.run(image[None].float().numpy())['logits']
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_the_graph_is_plain(plus):
    model = onnx.load(plus[1])
    assert {opset.domain for opset in model.opset_import} <= {''}
    assert {node.domain for node in model.graph.node} == {''}
    (entry,), outputs = model.graph.input, [output.name for output in model.graph.output]
    assert entry.name == 'frame' and outputs == ['logits', 'features']
    assert [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim] == [
        1, 3, 'height', 'width',
    ]  # fmt: skip
    said = OnnxSession(plus[1]).description
    assert said['gate'] and said['precision'] == 'float32' and 'BGR' in said['input']
    assert len(said['classes']) == NUM_CLASSES


def test_half_precision_and_a_fixed_size(tmp_path):
    method, path = learned('tent', 'segformer'), tmp_path / 'half.onnx'
    exported = _exported(path, method, half=True, fixed_size=True)
    assert 1e-5 < exported.agreement.difference <= 0.02 * exported.agreement.largest
    assert exported.agreement.sizes == 1
    model = onnx.load(path)
    kinds = {onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT}
    weights = [weight for weight in model.graph.initializer if weight.data_type in kinds]
    narrow = [weight for weight in weights if weight.data_type == onnx.TensorProto.FLOAT16]
    assert sum(np.prod(w.dims) for w in narrow) > 0.9 * sum(np.prod(w.dims) for w in weights)
    session = OnnxSession(path)
    assert session.run(np.zeros((1, 3, 64, 96), np.float32))['logits'].dtype == np.float32
    with pytest.raises(ValueError, match=r'expected a frame of shape \(1, 3, 64, 96\), got'):
        session.run(np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.skipif(not hasattr(torch.export, 'Dim'), reason='torch has no torch.export.Dim')
def test_a_program_of_torch_export(tmp_path):
    method, path = learned('calibrated', steps=1), tmp_path / 'network.pt2'
    exported = _exported(path, method, format='torch_export')
    assert exported.agreement.difference < 1e-4 and exported.agreement.sizes == 3
    program = torch.export.load(path).module()
    image = frame(3, (80, 256))
    torch.testing.assert_close(
        program(image[None].float()), predicted(method, image), atol=1e-4, rtol=0
    )


@pytest.mark.skipif(not hasattr(torch.export, 'Dim'), reason='torch has no torch.export.Dim')
def test_the_probe_of_a_program_goes_by_the_size(plus):
    """Frames below 256 pixels are probed whole, others at half size, by the same program."""

    class Probe(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = export.PlainNetwork(plus[0], frame(0)[None].float()).gate_in_float32

        def forward(self, x):
            return self.gate.probe(x)

    sides = [torch.export.Dim(name, min=64, max=4096) for name in ('height', 'width')]
    program = torch.export.export(
        Probe(), (torch.zeros(1, 3, 64, 96),), dynamic_shapes=({2: sides[0], 3: sides[1]},),
        strict=False,
    ).module()  # fmt: skip
    for size, probed in (((64, 300), (64, 300)), ((256, 301), (128, 150)), ((512, 255),) * 2):
        x = torch.rand(1, 3, *size)
        assert program(x).shape[2:] == probed
        torch.testing.assert_close(program(x), Probe()(x))


def test_torch_export_needs_a_newer_torch(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.export, 'Dim', raising=False)
    with pytest.raises(ValueError, match='needs a torch with torch.export.Dim'):
        _exported(tmp_path / 'n.pt2', learned('source', steps=0), format='torch_export')
    assert not list(tmp_path.iterdir())


def test_a_network_that_differs_is_not_written(tmp_path, monkeypatch):
    (tmp_path / 'n.onnx').write_text('an earlier one')

    class Other(export.PlainNetwork):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.segmentor.decode_head.conv_seg.bias.data += 0.01

    monkeypatch.setattr(export, 'PlainNetwork', Other)
    with pytest.raises(
        ValueError, match='differs from the network in torch, so nothing is written: on 3 fr'
    ):
        _exported(tmp_path / 'n.onnx', learned('source', steps=0))
    assert [path.name for path in tmp_path.iterdir()] == ['n.onnx']
    assert (tmp_path / 'n.onnx').read_text() == 'an earlier one'


def test_a_frame_without_numbers_is_a_difference():
    network = export.PlainNetwork(learned('source', steps=0), frame(0)[None].float())
    method = learned('source', steps=0)
    found = export.compare(lambda image: network(image) * np.nan, method, _frames(1))
    assert found.difference == np.inf


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(path, content):
        with open(path, 'wb') as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, 'No space left on device')

    method = learned('source', steps=0)
    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(OSError, match='No space left on device') as raised:
        _exported(tmp_path / 'n.onnx', method, fixed_size=True)
    assert raised.value.filename == str(tmp_path / 'n.onnx')
    assert not list(tmp_path.iterdir())


def test_an_operation_that_onnx_does_not_know_is_one_sentence(tmp_path):
    segmentor = build_segmentor('deeplab', shallow=True)
    segmentor.decode_head.image_pool[0] = torch.nn.AdaptiveAvgPool2d((5, 7))
    method = export_method(segmentor)
    with pytest.raises(ValueError, match='torch could not export it .*try --fixed-size'):
        _exported(tmp_path / 'n.onnx', method)
    assert not list(tmp_path.iterdir())


def export_method(segmentor):
    from ecotta_seg.methods import build_method

    return build_method(METHODS['source'], segmentor).eval()


@pytest.mark.parametrize('content', [b'', b'onnx?', None])
def test_other_files_are_no_networks(content, tmp_path, plus):
    path = tmp_path / 'n.onnx'
    path.write_bytes(plus[1].read_bytes()[:5000] if content is None else content)
    with pytest.raises(ValueError, match='is damaged or not an ONNX model'):
        OnnxSession(path)


def test_an_onnx_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / 'other.onnx'
    torch.onnx.export(torch.nn.Conv2d(3, 4, 1), (torch.zeros(1, 3, 8, 8),), path, **_legacy())
    with pytest.raises(ValueError, match='an ONNX model that ecotta_seg did not write'):
        OnnxSession(path)
    with pytest.raises(ValueError, match='n.onnx does not exist: tools/export.py writes one'):
        OnnxSession(tmp_path / 'n.onnx')


def _legacy():
    import inspect

    found = inspect.signature(torch.onnx.export).parameters
    return dict(dynamo=False) if 'dynamo' in found else {}
