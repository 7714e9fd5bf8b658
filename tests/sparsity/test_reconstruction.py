"""Block-wise reconstruction: closer to the dense network, with the cut weights at zero."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from ecotta_seg.sparsity.allocation import uniform_cuts
from ecotta_seg.sparsity.calls import blocks_of, called_layers, calls_of
from ecotta_seg.sparsity.fidelity import agreement, logits_of, output_error
from ecotta_seg.sparsity.masks import magnitude_mask, takes_two_of_four, two_of_four_mask
from ecotta_seg.sparsity.reconstruction import cut_weights, reconstruct
from tests.segmentors import build_segmentor
from tests.sparsity.conftest import smooth_frames, weights_to_cut


def _rule(model, frames, sparsity):
    weights = weights_to_cut(model, frames)
    cuts = uniform_cuts({name: weight.numel() for name, weight in weights.items()}, sparsity)
    return weights, cuts, lambda name, weight: magnitude_mask(weight, cuts[name])


def _of(model, weights):
    return {name: model.get_parameter(name) for name in weights}


def test_it_lowers_the_error_on_held_out_frames(model):
    frames, held_out = smooth_frames(model, 4), smooth_frames(model, 4, seed=2)
    weights, cuts, rule = _rule(model, frames, 0.8)
    alone, sparse = deepcopy(model), deepcopy(model)
    cut_weights(_of(alone, weights), rule)
    blocks = list(reconstruct(sparse, model, frames, _of(sparse, weights), rule, steps=40))
    assert all(block.after <= block.before for block in blocks)
    assert sum(block.regrown for block in blocks) > 0
    dense = logits_of(model, held_out)
    error = output_error(dense, logits_of(sparse, held_out))
    assert error < 0.8 * output_error(dense, logits_of(alone, held_out))
    for name, weight in _of(sparse, weights).items():
        assert int((weight == 0).sum()) == cuts[name], name
    # Statistics and layers that are kept dense in a block without cut weights stay.
    buffers = dict(model.named_buffers())
    assert all(torch.equal(value, buffers[key]) for key, value in sparse.named_buffers())
    name = 'decode_head.conv_seg.weight'
    assert torch.equal(sparse.get_parameter(name), model.get_parameter(name))


def test_the_pattern_holds_after_the_reconstruction(model):
    frames = smooth_frames(model, 2)
    weights = {n: w for n, w in weights_to_cut(model, frames).items() if takes_two_of_four(w)}
    dense = deepcopy(model)
    list(reconstruct(model, dense, frames, weights, lambda _, w: two_of_four_mask(w), steps=12))
    for name, weight in weights.items():
        rows = weight.movedim(1, -1).reshape(-1, 4)
        assert bool(((rows != 0).sum(1) == 2).all()), name


def test_without_steps_it_cuts_by_magnitude_alone(model):
    frames = smooth_frames(model, 2)
    weights, _, rule = _rule(model, frames, 0.5)
    alone, sparse = deepcopy(model), deepcopy(model)
    cut_weights(_of(alone, weights), rule)
    list(reconstruct(sparse, model, frames, _of(sparse, weights), rule, steps=0))
    for (key, one), other in zip(alone.state_dict().items(), sparse.state_dict().values()):
        assert torch.equal(one, other), key


class OneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(2, 1, 1, bias=False)

    def encode_decode(self, inputs, metas):
        return self.layer(inputs)


def test_a_weight_that_was_wrongly_cut_grows_back():
    """The small weight sees an input a hundred times as large: least squares wants it, not the
    large one."""
    dense = OneLayer().requires_grad_(False)
    dense.layer.weight.copy_(torch.tensor([1.0, 0.9]).view(1, 2, 1, 1))
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.1, 10.0]).view(1, 2, 1, 1)
    frames = [(torch.randn(1, 2, 8, 8, generator=generator) * scale, [{}]) for _ in range(3)]
    sparse = deepcopy(dense)
    weights = {'layer.weight': sparse.layer.weight}
    rule = lambda _, weight: magnitude_mask(weight, 1)  # noqa: E731
    assert rule('', dense.layer.weight).flatten().tolist() == [True, False]
    (block,) = reconstruct(sparse, dense, frames, weights, rule, steps=100, rate=0.05)
    first, second = sparse.layer.weight.flatten().tolist()
    assert first == 0 and second == pytest.approx(0.9, abs=0.25)
    assert block.regrown == 1 and block.before > 0.9 and block.after < 0.1


def test_no_frame_is_refused(two_branches):
    with pytest.raises(ValueError, match='expected at least one clear frame'):
        list(reconstruct(two_branches, two_branches, [], {}, magnitude_mask))


def test_each_weight_is_in_one_block_that_runs_by_itself(model):
    frames = smooth_frames(model, 2)
    weights = list(weights_to_cut(model, frames))
    blocks = blocks_of(model, frames[0], weights)
    assert sorted(name for names in blocks.values() for name in names) == sorted(weights)
    for block in blocks:
        for call in calls_of(model, block, frames):
            output = model.get_submodule(block)(*call.args, **call.kwargs)
            assert torch.equal(output, call.output), block


def test_layers_come_in_the_order_of_the_calls(two_branches):
    assert called_layers(two_branches, (torch.zeros(1, 8, 4, 4), [{}])) == ['heard', 'unheard']


def test_the_agreement_counts_pixels():
    one = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    other = torch.tensor([[[[1.0, 2.0]], [[0.0, 1.0]]]])
    assert agreement([one], [other]) == 0.5
    assert output_error([one], [other]) == pytest.approx(4 / 2)


def test_a_model_with_sliding_windows_is_run_on_one_window():
    model = build_segmentor(
        'deeplab', shallow=True, mode='slide', crop_size=(24, 32), stride=(16, 16)
    ).requires_grad_(False)
    frames = smooth_frames(model, 2)
    assert [tuple(inputs.shape) for inputs, _ in frames] == [(1, 3, 24, 32)] * 2
    assert [tuple(logits.shape[2:]) for logits in logits_of(model, frames)] == [(24, 32)] * 2
    weights, cuts, rule = _rule(model, frames, 0.5)
    list(reconstruct(model, deepcopy(model), frames, weights, rule, steps=2))
    assert all(int((weight == 0).sum()) == cuts[name] for name, weight in weights.items())
