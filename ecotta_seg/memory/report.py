"""Where the memory of a run goes: what stands between frames, and the peaks of a frame."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Callable, Optional, Union

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from .kept_copies import reachable_tensors
from .storage_meter import StorageMeter

MIB = 2**20


@dataclass
class StandingMemory:
    """Bytes that stand between two frames, each storage counted once and in one field only.

    Attributes:
        parameters_bytes: Parameters and buffers of the model without its adapters.
        adapters_bytes: Parameters and buffers of what was added to the model.
        gradients_bytes: Gradients held in ``.grad``.
        optimizer_bytes: Tensors of the optimizer's state (momentum, moments, steps).
        kept_bytes: All else that the model holds on to: parameters to go back to, a teacher's or
            an anchor's, Fisher information, a guard's last good state.
    """

    parameters_bytes: int = 0
    adapters_bytes: int = 0
    gradients_bytes: int = 0
    optimizer_bytes: int = 0
    kept_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All five together."""
        return (
            self.parameters_bytes
            + self.adapters_bytes
            + self.gradients_bytes
            + self.optimizer_bytes
            + self.kept_bytes
        )


@dataclass
class MemoryReport:
    """The memory of a run, in bytes; ``to_dict`` is the ``"memory"`` of ``results.json``.

    Attributes:
        inference_peak_bytes: Peak of stock inference on one frame, above the parameters.
        adaptation_peak_bytes: Peak of one adapt-and-predict step above the parameters (adapters
            counted among them): activations, gradients and the optimizer's state, whether these
            stand between frames or are made during one.
        parameters_bytes: See ``StandingMemory``.
        adapters_bytes: See ``StandingMemory``.
        gradients_bytes: Gradients of one step; where they are released part by part, the most
            that stands at once.
        optimizer_bytes: See ``StandingMemory``.
        kept_bytes: See ``StandingMemory``; not in the peaks.
        activations_bytes: ``adaptation_peak_bytes`` less gradients and optimizer state.
        process_peak_bytes: Peak resident size of the process; None where not measured.
        device: ``'cpu'`` or ``'cuda:0'`` ...
        meter: How the peaks were measured: ``'storage'`` (exact, by ``StorageMeter``) or
            ``'cuda allocator'``.
        extra: More entries for ``to_dict`` (the plan, the predicted peak, fallbacks ...).
    """

    inference_peak_bytes: Optional[int] = None
    adaptation_peak_bytes: Optional[int] = None
    parameters_bytes: int = 0
    adapters_bytes: int = 0
    gradients_bytes: int = 0
    optimizer_bytes: int = 0
    kept_bytes: int = 0
    activations_bytes: Optional[int] = None
    process_peak_bytes: Optional[int] = None
    device: str = 'cpu'
    meter: str = 'storage'
    extra: dict = field(default_factory=dict)

    @classmethod
    def build(
        cls,
        standing: StandingMemory,
        step_peak_bytes: Optional[int],
        inference_peak_bytes: Optional[int] = None,
        transient_gradients_bytes: int = 0,
        **fields,
    ) -> 'MemoryReport':
        """Puts together what was measured.

        Args:
            standing: What stood when the measured step began, with the optimizer's state already
                there (measure the second step, not the first: the first one makes the state).
            step_peak_bytes: Peak of that step above what stood, by ``measure_peak``; None where
                no step was measured.
            inference_peak_bytes: The same of stock inference.
            transient_gradients_bytes: Gradients that the step made and freed again.
            **fields: Other attributes of the report.
        """
        adaptation = activations = None
        gradients = max(standing.gradients_bytes, transient_gradients_bytes)
        if step_peak_bytes is not None:
            # What stands at entry beside the parameters belongs to adapting, not to the model.
            kept = standing.gradients_bytes + standing.optimizer_bytes
            adaptation = step_peak_bytes + kept
            activations = max(0, adaptation - gradients - standing.optimizer_bytes)
        return cls(
            inference_peak_bytes=inference_peak_bytes,
            adaptation_peak_bytes=adaptation,
            parameters_bytes=standing.parameters_bytes,
            adapters_bytes=standing.adapters_bytes,
            gradients_bytes=gradients,
            optimizer_bytes=standing.optimizer_bytes,
            kept_bytes=standing.kept_bytes,
            activations_bytes=activations,
            **fields,
        )

    @property
    def total_bytes(self) -> Optional[int]:
        """Everything: parameters, adapters, kept copies and the adaptation peak."""
        if self.adaptation_peak_bytes is None:
            return None
        standing = self.parameters_bytes + self.adapters_bytes + self.kept_bytes
        return standing + self.adaptation_peak_bytes

    def to_dict(self) -> dict:
        """JSON-ready, ``extra`` merged in."""
        fields = asdict(self)
        extra = fields.pop('extra')
        return {**fields, 'total_bytes': self.total_bytes, **extra}


def storage_bytes(tensors: Iterable[Tensor], seen: Optional[set] = None) -> int:
    """Bytes of the storages behind tensors, each storage once.

    Args:
        tensors: Any tensors; views and shared ones are fine.
        seen: Storages already counted elsewhere; they are skipped, and those counted here are
            added.
    """
    seen = set() if seen is None else seen
    total = 0
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen.add(storage._cdata)
            total += storage.nbytes()
    return total


def module_tensors(module: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a module, saved in its checkpoint or not."""
    return [*module.parameters(), *module.buffers()]


def optimizer_tensors(optimizer: Optional[torch.optim.Optimizer]) -> list[Tensor]:
    """All tensors in an optimizer's state."""
    if optimizer is None:
        return []
    leaves, _ = tree_flatten(dict(optimizer.state))
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def standing_memory(
    model: nn.Module,
    adapters: Union[nn.Module, Mapping[str, Tensor], Iterable[Tensor]] = (),
    optimizer: Optional[torch.optim.Optimizer] = None,
    beside: Iterable[object] = (),
) -> StandingMemory:
    """Measures what stands between frames.

    Args:
        model: The model, adapters included where they are part of it. What it holds beside its
            parameters and buffers is looked for in its attributes, see ``reachable_tensors``.
        adapters: What was added: a module, or tensors, or tensors by name.
        optimizer: The optimizer, if there is one.
        beside: More that stands for the sake of adapting and is not reached from the model (a
            second set of adapters); what it shares with the model is not counted again.
    """
    if isinstance(adapters, nn.Module):
        adapters = module_tensors(adapters)
    elif isinstance(adapters, Mapping):
        adapters = adapters.values()
    seen: set[int] = set()
    adapters = list(adapters)
    everything = module_tensors(model)
    gradients = [tensor.grad for tensor in [*everything, *adapters] if tensor.grad is not None]
    return StandingMemory(
        adapters_bytes=storage_bytes(adapters, seen),
        parameters_bytes=storage_bytes(everything, seen),
        gradients_bytes=storage_bytes(gradients, seen),
        optimizer_bytes=storage_bytes(optimizer_tensors(optimizer), seen),
        kept_bytes=storage_bytes(reachable_tensors(model, *beside), seen),
    )


def measure_peak(function: Callable[[], object], device: Union[str, torch.device]) -> int:
    """Peak tensor memory of one call, above what stood before it.

    Args:
        function: Called once, without arguments; its result is dropped.
        device: Where it computes. ``cpu`` is measured with ``StorageMeter`` (exact and
            repeatable), ``cuda`` by torch's allocator (which also sees kernels' workspaces).

    Returns:
        Bytes.

    Raises:
        ValueError: The device is neither, or CUDA is asked for and there is none.
    """
    device = torch.device(device)
    if device.type == 'cpu':
        with StorageMeter(device='cpu') as meter:
            function()
        return meter.peak_bytes
    if device.type != 'cuda':
        raise ValueError(f'expected a cpu or cuda device to measure on, got {str(device)!r}')
    if not torch.cuda.is_available():
        raise ValueError('cannot measure on cuda: torch finds no CUDA device; use device="cpu"')
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def meter_name(device: Union[str, torch.device]) -> str:
    """What ``measure_peak`` measures with on a device, for the report."""
    return 'cuda allocator' if torch.device(device).type == 'cuda' else 'storage'
