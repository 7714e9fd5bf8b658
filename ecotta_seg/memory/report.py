"""The memory of a run: the bytes held between frames, and the peaks of a frame."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Optional, Union

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from .kept_copies import reachable_tensors

MIB = 2**20


@dataclass
class StandingMemory:
    """Bytes held between two frames; each storage counts once, in one field only.

    Attributes:
        parameters_bytes: Parameters and buffers of the model without its adapters.
        adapters_bytes: Parameters and buffers of the adapters.
        gradients_bytes: Gradients held in ``.grad``.
        optimizer_bytes: Tensors of the optimizer's state (momentum, moments, steps).
        kept_bytes: All other tensors that the model references: parameters to restore, parameters
            of a teacher or an anchor, Fisher information, a guard's last good state.
    """

    parameters_bytes: int = 0
    adapters_bytes: int = 0
    gradients_bytes: int = 0
    optimizer_bytes: int = 0
    kept_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """The sum of the five attributes, in bytes."""
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
        adaptation_peak_bytes: Peak of one adapt-and-predict step above the parameters (including
            adapters): activations, gradients and the optimizer's state, whether held between
            frames or created during a frame.
        parameters_bytes: See ``StandingMemory``.
        adapters_bytes: See ``StandingMemory``.
        gradients_bytes: Gradients of one step. If a step frees some gradients before it creates
            others, only the largest amount that exists at the same time counts.
        optimizer_bytes: See ``StandingMemory``.
        kept_bytes: See ``StandingMemory``. The two peaks do not include these bytes.
        activations_bytes: ``adaptation_peak_bytes`` minus ``gradients_bytes`` and
            ``optimizer_bytes``.
        process_peak_bytes: Peak resident size of the process; None if not measured.
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
        """Builds the report from the measurements.

        Args:
            standing: The memory held when the measured step began, including the optimizer's
                state. Measure the second step, because the first step creates this state.
            step_peak_bytes: Peak of this step above ``standing``, by ``measure_peak``; None if no
                step was measured.
            inference_peak_bytes: Peak of stock inference on one frame, by ``measure_peak``.
            transient_gradients_bytes: Bytes of gradients that the step created and also freed.
            **fields: Other attributes of the report.
        """
        adaptation = activations = None
        gradients = max(standing.gradients_bytes, transient_gradients_bytes)
        if step_peak_bytes is not None:
            # Gradients and optimizer state held at entry belong to the adaptation, not the model.
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
        """The sum of parameters, adapters, kept tensors and the adaptation peak, in bytes."""
        if self.adaptation_peak_bytes is None:
            return None
        standing = self.parameters_bytes + self.adapters_bytes + self.kept_bytes
        return standing + self.adaptation_peak_bytes

    def to_dict(self) -> dict:
        """A JSON-ready dict, including the entries of ``extra``."""
        fields = asdict(self)
        extra = fields.pop('extra')
        return {**fields, 'total_bytes': self.total_bytes, **extra}


def storage_bytes(tensors: Iterable[Tensor], seen: Optional[set] = None) -> int:
    """Bytes of the storages behind tensors, each storage once.

    Args:
        tensors: Any tensors; views and shared storages are allowed.
        seen: Storages that are already counted elsewhere; these are skipped. The function adds the
            storages that it counts to this set.
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
    """Parameters and buffers of a module, including buffers that a checkpoint omits."""
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
    """Measures the memory held between frames.

    Args:
        model: The model, with its adapters if they are part of it. Other tensors of the model are
            found through its attributes, see ``reachable_tensors``.
        adapters: The adapters: a module, tensors, or tensors by name.
        optimizer: The optimizer, or None.
        beside: Other objects that the adaptation holds and the model does not reference, for
            example a second set of adapters. Storages shared with the model are not counted again.
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
