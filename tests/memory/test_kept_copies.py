"""What an adaptation holds beside parameters and optimizer, against counts by hand."""

from collections import deque

import pytest
import torch
from torch import nn

from ecotta_seg.guard import UpdateGuard
from ecotta_seg.memory import reachable_tensors, standing_memory, storage_bytes
from ecotta_seg.methods.layer_weights import LayerWeights


class Holding(nn.Module):
    """A linear layer of 6 x 4 elements, and what a test gives it to hold."""

    def __init__(self, **held):
        super().__init__()
        self.layer = nn.Linear(4, 6, bias=False)
        for name, value in held.items():
            setattr(self, name, value)


PARAMETERS = 6 * 4 * 4


def kept(model, optimizer=None):
    standing = standing_memory(model, optimizer=optimizer)
    assert standing.parameters_bytes == PARAMETERS
    return standing.kept_bytes


def test_a_model_that_keeps_nothing():
    assert kept(Holding(name='x', numbers=[1, 2.0], nothing=None)) == 0


@pytest.mark.parametrize(
    'container',
    [
        lambda tensor: tensor,
        lambda tensor: [1, (tensor,)],
        lambda tensor: {'a': {'b': tensor}},
        lambda tensor: deque([tensor]),
        lambda tensor: Holder(tensor),
    ],
)
def test_a_tensor_is_found_wherever_it_is_kept(container):
    # 10 elements, though fewer are shown, and seen by two names.
    tensor = torch.zeros(10)
    model = Holding(first=container(tensor[:3]), second=container(tensor))
    assert kept(model) == (0 if isinstance(model.first, Holder) else 40)


class Holder:
    """An object of a package that is not looked into."""

    def __init__(self, tensor):
        self.tensor = tensor


def test_parameters_and_gradients_are_not_counted_again():
    model = Holding()
    model.layer(torch.ones(2, 4)).sum().backward()
    model.again = [model.layer.weight, model.layer.weight.data[2:], model.layer.weight.grad]
    assert kept(model) == 0
    model.copy = model.layer.weight.detach().clone()
    assert kept(model) == PARAMETERS


def test_the_optimizers_state_is_not_counted_again():
    model = Holding()
    model.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.layer(torch.ones(2, 4)).sum().backward()
    model.optimizer.step()
    model.momentum = next(iter(model.optimizer.state.values()))['momentum_buffer']
    assert kept(model, model.optimizer) == 0
    assert standing_memory(model, optimizer=model.optimizer).optimizer_bytes == PARAMETERS


def test_a_guard_layer_weights_and_a_module_that_nobody_registered():
    guard = UpdateGuard()
    guard._good = {'tensors': {'a': torch.zeros(5)}, 'optimizer': {'state': {0: torch.zeros(2)}}}
    model = Holding(guard=guard)
    assert kept(model) == guard.kept_bytes == 28
    # Information of one layer, and its weight, in float64.
    model.layer_weights = LayerWeights(model.parameters(), 1.0)
    assert kept(model) == 28 + 16
    model.others = [nn.Linear(3, 3)]
    assert kept(model) == 28 + 16 + (9 + 3) * 4


def test_tensors_without_data_take_nothing():
    assert kept(Holding(plan=torch.zeros(1000, device='meta'))) == 0


def test_a_circle_ends_and_nothing_is_twice():
    model = Holding()
    model.guard = UpdateGuard()
    model.guard._good = [model, torch.zeros(3)]
    found = reachable_tensors(model, model, None)
    assert storage_bytes(found) == PARAMETERS + 12 and len(found) == 2
