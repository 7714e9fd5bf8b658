"""A method's own step on tensors without data, to predict the step's memory.

A step on torch's ``meta`` device creates the same tensors as the real step and computes nothing.
The peak that the storage meter reads there is the peak of the real step. If code converts a tensor
without data to a number, the result is 1, and as a truth value True (see ``KnownResults``). Methods
write their conditions so that True is the usual case.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from .. import StorageMeter
from ..lean.recompute import recomputing
from ..operation_counter import OperationCounter
from .known_results import KnownResults
from .without_data import stock_inference_peak, without_data


@dataclass
class ModuleCost:
    """The memory that a module keeps for its backward, and the cost to recompute the module.

    Attributes:
        name: The module's name in the segmentor.
        kept: Bytes that the graph keeps of the module's inner tensors.
        inputs: Bytes of the inputs, which stay in memory if the module is recomputed.
        operations: Floating-point operations of the module's forward.
        inside: The ``ModuleCost`` of each submodule.
        overwritten: Whether a layer overwrites the module's input, so that the module cannot run
            again.
    """

    name: str
    kept: int = 0
    inputs: int = 0
    operations: int = 0
    inside: list['ModuleCost'] = field(default_factory=list)
    overwritten: bool = False


def method_without_data(method: nn.Module) -> nn.Module:
    """Copies a method to the meta device without copying any tensor's data."""
    held = (method.learned_tensors(), vars(method), method.optimizer_state())
    tensors = [leaf for leaf in tree_flatten(held)[0] if isinstance(leaf, Tensor)]
    # These objects take part in the real steps and must not be changed by dry runs.
    attached = ('observer', 'guard', 'estimate', 'planner', 'planned', 'compute_budget')
    return without_data(method, tensors, [getattr(method, name, None) for name in attached])


class DryRun:
    """Runs steps of a method on tensors without data, for one frame size.

    Args:
        method: A method that learns by gradients; not changed.
        inputs: (N, 3, H, W); only the shape counts.
        metas: Metainfo of the N samples.

    Attributes:
        standing_bytes: Bytes of the optimizer's state, alive from the first step on.
    """

    def __init__(self, method: nn.Module, inputs: Tensor, metas: list[dict]) -> None:
        self._method = method_without_data(method).eval()
        self._inputs = torch.empty_like(inputs, device='meta')
        self._metas = metas
        self._known = KnownResults()
        self._peaks: dict[frozenset[str], int] = {}
        # The first step creates the optimizer's state, which then stays in memory.
        with self._known, StorageMeter(device='meta') as meter:
            self._step()
        self.standing_bytes = meter.current_bytes

    def _step(self) -> None:
        # mmseg writes into the metainfo of sliding windows.
        self._method.adapt(self._inputs, [dict(meta) for meta in self._metas])

    def peak(self, names: Iterable[str] = ()) -> int:
        """Peak bytes of a step that recomputes these modules, with the optimizer's state."""
        names = frozenset(names)
        if names not in self._peaks:
            modules = [self._method.segmentor.get_submodule(name) for name in sorted(names)]
            with self._known, StorageMeter(device='meta') as meter, recomputing(modules):
                self._step()
            self._peaks[names] = meter.peak_bytes + self.standing_bytes
        return self._peaks[names]

    def costs(self) -> list[ModuleCost]:
        """The candidates for recomputing: a tree of the modules through which gradients pass."""
        with self._known, _listening(self._method.segmentor) as costs:
            self._step()
        return costs

    def inference_peak(self) -> int:
        """Peak bytes of stock inference: no meta networks, and the source's own statistics."""
        return stock_inference_peak(self._method.segmentor, self._inputs, self._metas, self._known)


@contextmanager
def _listening(segmentor: nn.Module) -> Iterator[list[ModuleCost]]:
    """Context manager that yields the costs of all modules that run inside with a gradient.

    A module with meta networks inside is not recorded. In each forward pass it passes the parts'
    outputs to the method (``MetaEncoder.record``), so it must not run a second time.
    """
    roots: list[ModuleCost] = []
    open_modules: list[ModuleCost] = []
    found: dict[str, ModuleCost] = {}
    seen: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if open_modules and storage._cdata not in seen:
            seen.add(storage._cdata)
            kept_alive.append(storage)
            for cost in open_modules:
                cost.kept += storage.nbytes()
        return tensor

    def enter(name: str):
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            cost = found.get(name)
            if cost is None:
                cost = found[name] = ModuleCost(name)
                (open_modules[-1].inside if open_modules else roots).append(cost)
            tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
            versions.extend((cost, tensor, tensor._version) for tensor in tensors)
            cost.inputs += sum(t.untyped_storage().nbytes() for t in tensors)
            cost.operations -= counter.operations
            open_modules.append(cost)

        return hook

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        open_modules.pop().operations += counter.operations

    handles = []
    # Keep the storages alive, so that no address is reused; they hold no data.
    kept_alive: list = []
    versions: list[tuple[ModuleCost, Tensor, int]] = []
    counter = OperationCounter()
    for name, module in segmentor.named_modules():
        holds = any(
            hasattr(inner, 'meta_networks') or hasattr(inner, 'holds_meta_network')
            for inner in module.modules()
        )
        if name and not holds and next(module.children(), None) is not None:
            handles.append(module.register_forward_pre_hook(enter(name), with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), counter:
            yield roots
        for cost, tensor, version in versions:
            cost.overwritten |= tensor._version != version
    finally:
        for handle in handles:
            handle.remove()
