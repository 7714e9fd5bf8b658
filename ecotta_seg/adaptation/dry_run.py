"""A method's own step on tensors without data, for the memory that the step takes.

On torch's ``meta`` device a step makes every tensor that the real step makes and computes none of
them. The peak that the storage meter reads there is the peak of the real step. Code that asks a
tensor without data for a number gets 1, and for a truth value True (``KnownResults``): methods
write their conditions so that True is the usual case.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

from ..lean.recompute import recomputing
from ..memory import StorageMeter
from ..memory.known_results import KnownResults
from .without_data import stock_inference_peak, without_data


@dataclass
class ModuleCost:
    """What a module of the model keeps for its backward, and what running it again takes.

    Attributes:
        name: Of the module in the segmentor.
        kept: Bytes that the graph keeps of the module's inside.
        inputs: Bytes of the inputs, which are kept if the module is recomputed.
        operations: Floating-point operations of its forward.
        inside: The costs of the modules inside.
        overwritten: Whether a layer writes over the module's input, so that the module cannot run
            again.
    """

    name: str
    kept: int = 0
    inputs: int = 0
    operations: int = 0
    inside: list['ModuleCost'] = field(default_factory=list)
    overwritten: bool = False


def method_without_data(method: nn.Module) -> nn.Module:
    """A copy of a method on the meta device; no tensor's data is copied on the way."""
    held = (method.learned_tensors(), vars(method), dict(method.optimizer.state))
    tensors = [leaf for leaf in tree_flatten(held)[0] if isinstance(leaf, Tensor)]
    # What watches the real steps has no part in these.
    watching = ('observer', 'guard', 'gate', 'estimate', 'planner', 'planned')
    return without_data(method, tensors, [getattr(method, name, None) for name in watching])


class DryRun:
    """Steps of a method without data, on one frame size.

    Args:
        method: A method that learns by gradients; it is left as it is.
        inputs: (N, 3, H, W); only the shape counts.
        metas: Metainfo of the N samples.

    Attributes:
        standing_bytes: The optimizer's state, which stands from the first step on.
    """

    def __init__(self, method: nn.Module, inputs: Tensor, metas: list[dict]) -> None:
        self._method = method_without_data(method).eval()
        self._inputs = torch.empty_like(inputs, device='meta')
        self._metas = metas
        self._known = KnownResults()
        self._peaks: dict[frozenset[str], int] = {}
        # The first step makes the optimizer's state, which then stands.
        with self._known, StorageMeter(device='meta') as meter:
            self._step()
        self.standing_bytes = meter.current_bytes

    def _step(self) -> None:
        # mmseg writes into the metainfo of sliding windows.
        self._method.adapt(self._inputs, [dict(meta) for meta in self._metas])

    def peak(self, names: Iterable[str] = ()) -> int:
        """Bytes of a step that recomputes these modules, the optimizer's state counted in."""
        names = frozenset(names)
        if names not in self._peaks:
            modules = [self._method.segmentor.get_submodule(name) for name in sorted(names)]
            with self._known, StorageMeter(device='meta') as meter, recomputing(modules):
                self._step()
            self._peaks[names] = meter.peak_bytes + self.standing_bytes
        return self._peaks[names]

    def costs(self) -> list[ModuleCost]:
        """What could be recomputed: a tree of the modules that a step's gradient goes through."""
        with self._known, _listening(self._method.segmentor) as costs:
            self._step()
        return costs

    def inference_peak(self) -> int:
        """Peak of stock inference: no meta networks, and the source's own statistics."""
        return stock_inference_peak(self._method.segmentor, self._inputs, self._metas, self._known)


@contextmanager
def _listening(segmentor: nn.Module) -> Iterator[list[ModuleCost]]:
    """Inside, each module of a segmentor that runs with a gradient is noted.

    Not a module that holds meta networks: it tells the method of them while it runs, once.
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
            cost.operations -= operations.get_total_flops()
            open_modules.append(cost)

        return hook

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        open_modules.pop().operations += operations.get_total_flops()

    handles = []
    # Held on to, so that no address is used twice; there is no data in them.
    kept_alive: list = []
    versions: list[tuple[ModuleCost, Tensor, int]] = []
    operations = FlopCounterMode(display=False)
    for name, module in segmentor.named_modules():
        holds = any(hasattr(inner, 'meta_networks') for inner in module.modules())
        if name and not holds and next(module.children(), None) is not None:
            handles.append(module.register_forward_pre_hook(enter(name), with_kwargs=True))
            handles.append(module.register_forward_hook(leave))
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), operations:
            yield roots
        for cost, tensor, version in versions:
            cost.overwritten |= tensor._version != version
    finally:
        for handle in handles:
            handle.remove()
