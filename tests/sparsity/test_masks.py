"""Masks against NumPy, and which layers they may touch."""

import numpy as np
import pytest
import torch

from ecotta_seg.names.choices import KEPT_LAYERS
from ecotta_seg.sparsity.masks import magnitude_mask, two_of_four_mask
from tests.sparsity.conftest import smooth_frames, weights_to_cut


@pytest.mark.parametrize('cut', [0, 1, 17, 96])
def test_the_smallest_weights_are_cut(cut):
    weight = torch.randn(4, 8, 3, 1, generator=torch.Generator().manual_seed(0))
    mask = magnitude_mask(weight, cut)
    order = np.argsort(np.abs(weight.numpy().ravel()))
    expected = np.ones(weight.numel(), bool)
    expected[order[:cut]] = False
    assert np.array_equal(mask.numpy().ravel(), expected)


def test_the_count_is_exact_among_equal_weights():
    assert int(magnitude_mask(torch.ones(5, 5), 7).sum()) == 18


@pytest.mark.parametrize('cut', [-1, 10])
def test_a_count_out_of_range_is_refused(cut):
    with pytest.raises(ValueError, match='expected to cut 0 to 9 weights'):
        magnitude_mask(torch.ones(3, 3), cut)


@pytest.mark.parametrize('shape', [(5, 8, 3, 3), (6, 12), (2, 4, 1, 1)])
def test_two_of_four_along_the_input_channels(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mask = two_of_four_mask(weight).numpy()
    values = np.abs(weight.numpy())
    for place in np.ndindex(*(shape[:1] + shape[2:])):
        row, kept = (x[place[0]][(slice(None), *place[1:])] for x in (values, mask))
        for start in range(0, shape[1], 4):
            largest = np.sort(row[start : start + 4])[2:]
            assert np.array_equal(np.sort(row[start : start + 4][kept[start : start + 4]]), largest)


def test_three_input_channels_make_no_group():
    with pytest.raises(ValueError, match=r'multiple of four input channels, got .*\(8, 3, 3, 3\)'):
        two_of_four_mask(torch.ones(8, 3, 3, 3))


def test_first_layer_classifier_and_depthwise_stay_dense(model):
    frames = smooth_frames(model, 1)
    all_, kept = (set(weights_to_cut(model, frames, keep=keep)) for keep in ((), KEPT_LAYERS))
    assert 'decode_head.conv_seg.weight' in all_ - kept
    first = {'backbone.stem.0.weight', 'backbone.layers.0.0.projection.weight'}
    assert len(first & (all_ - kept)) == 1
    depthwise = [n for n in all_ if model.get_parameter(n).shape[1] == 1]
    assert depthwise and not set(depthwise) & kept
    assert len(all_ - kept) == len(depthwise) + 2


def test_the_projection_of_an_attention_may_be_cut():
    from tests.segmentors import build_segmentor

    model = build_segmentor('segformer', shallow=True)
    names = weights_to_cut(model, smooth_frames(model, 1))
    assert any(name.endswith('in_proj_weight') for name in names)
    assert any(name.endswith('out_proj.weight') for name in names)


def test_an_unknown_kind_and_a_model_without_weights_are_refused(two_branches):
    with pytest.raises(ValueError, match="first, classifier, depthwise, got 'last'"):
        weights_to_cut(two_branches, [(torch.zeros(1, 8, 4, 4), [{}])], keep=['last'])
    with pytest.raises(ValueError, match='has no weight to cut: of its 2 layers'):
        weights_to_cut(two_branches, [(torch.zeros(1, 8, 4, 4), [{}])])
