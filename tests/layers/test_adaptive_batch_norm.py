"""Adaptive BatchNorm against torch's own and against its formulas."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from ecotta_seg.layers import AdaptiveBatchNorm2d, replace_batch_norms
from ecotta_seg.methods import build_method
from tests.segmentors import in_frame_mode


@pytest.fixture
def batch_norm():
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(4).eval()
    nn.init.uniform_(layer.weight, 0.5, 2)
    nn.init.normal_(layer.bias)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


X = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(3)) * 1.7 + 0.4


def _normalise(x, mean, var, layer):
    shape = (1, -1, 1, 1)
    x = (x - mean.view(shape)) / (var.view(shape) + layer.eps).sqrt()
    return x * layer.weight.view(shape) + layer.bias.view(shape)


def test_source_mode_is_the_stock_layer(batch_norm):
    assert torch.equal(AdaptiveBatchNorm2d(batch_norm)(X), batch_norm(X))


def test_frame_mode_is_the_training_forward(batch_norm):
    expected = deepcopy(batch_norm).train()(X)
    assert torch.allclose(AdaptiveBatchNorm2d(batch_norm, 'frame')(X), expected, atol=1e-5)


def test_blend_and_drift_follow_their_formulas(batch_norm):
    mean, var = X.mean(dim=(0, 2, 3)), X.var(dim=(0, 2, 3), correction=0)
    source_mean, source_var = batch_norm.running_mean, batch_norm.running_var
    blended = _normalise(
        X, 0.7 * source_mean + 0.3 * mean, 0.7 * source_var + 0.3 * var, batch_norm
    )
    assert torch.allclose(AdaptiveBatchNorm2d(batch_norm, 'blend', 0.3)(X), blended, atol=1e-5)

    eps = batch_norm.eps
    frame = torch.distributions.Normal(mean, (var + eps).sqrt())
    source = torch.distributions.Normal(source_mean, (source_var + eps).sqrt())
    w = 1 - torch.exp(-2.0 * torch.distributions.kl_divergence(frame, source))
    drifted = _normalise(
        X, source_mean + w * (mean - source_mean), source_var + w * (var - source_var), batch_norm
    )
    assert torch.allclose(AdaptiveBatchNorm2d(batch_norm, 'drift', 2.0)(X), drifted, atol=1e-5)


@pytest.mark.parametrize('mode', ['frame', 'drift'])
def test_one_value_a_channel_takes_the_source_statistics(batch_norm, mode):
    x = X[:1, :, :1, :1]
    assert torch.equal(AdaptiveBatchNorm2d(batch_norm, mode)(x), batch_norm(x))


@pytest.mark.parametrize('shape', [(2, 4), (1, 4), (1, 4, 9)])
@pytest.mark.parametrize('options', [
    dict(mode='frame'), dict(mode='blend', weight=0.5), dict(mode='drift', weight=2.0),
    dict(mode='frame', through_statistics=True),
])  # fmt: skip
def test_vectors_of_a_whole_frame_take_the_source_statistics(batch_norm, shape, options):
    # As a SyncBN gets them in EncNet, whose class does not tell what it normalises.
    vectors = nn.BatchNorm1d(4).eval()
    vectors.load_state_dict(batch_norm.state_dict())
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    layer = AdaptiveBatchNorm2d(batch_norm, **options)
    layer.last_drift = {}
    assert torch.equal(layer(x), vectors(x))
    assert layer.last_drift == {}


def test_norms_of_vectors_are_not_replaced():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm1d(4))
    assert len(replace_batch_norms(model, 'frame')) == 1
    assert type(model[1]) is nn.BatchNorm1d


def test_gradients_flow_through_statistics_only_if_asked(batch_norm):
    def gradient(layer):
        x = X.clone().requires_grad_()
        layer(x).square().sum().backward()
        return x.grad

    stock = gradient(deepcopy(batch_norm).train())
    through = gradient(AdaptiveBatchNorm2d(batch_norm, 'frame', through_statistics=True))
    constant = gradient(AdaptiveBatchNorm2d(batch_norm, 'frame'))
    assert torch.allclose(through, stock, atol=1e-4)
    assert not torch.allclose(constant, stock, atol=1e-2)


def test_replacing_keeps_names_and_tensors():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    before = {k: v.data_ptr() for k, v in model.state_dict().items()}
    assert len(replace_batch_norms(model, 'frame')) == 2
    assert {k: v.data_ptr() for k, v in model.state_dict().items()} == before


@pytest.mark.parametrize(('mode', 'weight'), [('frames', 1), ('blend', 1.5), ('drift', -1)])
def test_wrong_options_are_refused(batch_norm, mode, weight):
    with pytest.raises(ValueError, match='expected a'):
        AdaptiveBatchNorm2d(batch_norm, mode, weight)


def test_batch_statistics_are_those_of_torch_in_training(segmentor, frames):
    images, metas = [image.double() for image in frames[0]], frames[1]
    expected = in_frame_mode(segmentor.double())
    source = segmentor.encode_decode(images[0], metas)
    method = build_method(dict(type='batch_norm_statistics'), segmentor).eval()
    for image in images:
        logits = method.adapt(image, metas)
        assert torch.allclose(logits, expected.encode_decode(image, metas), atol=1e-8)
        assert not method.last_step.updated
    assert not torch.allclose(method.adapt(images[0], metas), source, atol=1e-2)


class _BlendedByHand(nn.Module):
    """Normalises by a blend of the frame's statistics and the source's, in plain arithmetic."""

    def __init__(self, layer, weight):
        super().__init__()
        self.layer, self.weight = layer, weight

    def forward(self, x):
        mean, var = self.layer.running_mean, self.layer.running_var
        if x.numel() > x.shape[1]:
            # One value a channel has no variance: the source's alone.
            frame_mean = x.mean(dim=(0, 2, 3))
            frame_var = (x - frame_mean.view(1, -1, 1, 1)).square().mean(dim=(0, 2, 3))
            mean = (1 - self.weight) * mean + self.weight * frame_mean
            var = (1 - self.weight) * var + self.weight * frame_var
        return _normalise(x, mean, var, self.layer)


def test_blended_statistics_are_blended_in_every_norm(segmentor, frames):
    image, metas = frames[0][0].double(), frames[1]
    expected = deepcopy(segmentor.double())
    for parent in list(expected.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _BlendedByHand(child, 0.3))
    config = dict(type='batch_norm_statistics', mode='blend', weight=0.3)
    method = build_method(config, segmentor).eval()
    with torch.no_grad():
        by_hand = expected.encode_decode(image, metas)
    assert torch.allclose(method.adapt(image, metas), by_hand, atol=1e-8)


def test_batch_statistics_need_a_batch_norm():
    with pytest.raises(ValueError, match='no BatchNorm'):
        build_method(dict(type='batch_norm_statistics'), nn.Sequential(nn.LayerNorm(3)))


def test_statistics_of_narrow_inputs_are_taken_in_float32(batch_norm):
    x = (X + 20).bfloat16()
    layer = AdaptiveBatchNorm2d(batch_norm, mode='frame')
    mean, var = layer.statistics(x)
    var_64, mean_64 = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    assert mean.dtype == var.dtype == torch.float32 and layer(x).dtype == torch.bfloat16
    assert torch.allclose(mean.double(), mean_64, 1e-5) and torch.allclose(
        var.double(), var_64, 1e-4
    )
