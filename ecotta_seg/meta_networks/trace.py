"""Finds the blocks of a backbone that nobody has described, by one run on an empty frame."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional

from torch import Tensor, nn

from .output_encoder import trial_outputs


@dataclass(frozen=True)
class TracedBlock:
    """A block of a backbone: a module in a list of modules that turns one map into another.

    Attributes:
        name: The module's name in the backbone.
        in_channels: C of the input, (N, C, H, W) or tokens (N, L, C).
        out_channels: C of the output.
        stride: The block maps H to ceil(H / stride), and the width likewise.
        parameters: Number of parameters.
        follows: Whether the input is the output of the block before it in the list of blocks.
    """

    name: str
    in_channels: int
    out_channels: int
    stride: int
    parameters: int
    follows: bool


@dataclass
class _Call:
    """What a run shows of a module.

    Attributes:
        count: Number of calls.
        place: Position of the latest call among all calls.
        input, output: Of the latest call; kept, so that no other tensor gets their addresses.
        version: The version of the input before the call, which an in-place operation raises.
    """

    count: int = 0
    place: int = 0
    input: Any = None
    output: Any = None
    version: int = 0


@dataclass
class _Run:
    calls: dict[str, _Call] = field(default_factory=dict)
    number: int = 0


def find_blocks(backbone: nn.Module) -> list[TracedBlock]:
    """The blocks of a backbone, in the order in which they run.

    A block is a module with several layers in an ``nn.Sequential`` or an ``nn.ModuleList``, such as
    a residual block or a transformer layer, or one of several attributes ``layer1``, ``layer2`` and
    so on. A frame passes through a block once. Input and output are maps (N, C, H, W) or tokens
    (N, L, C), and the block does not change its input in place. Of nested blocks the outermost
    counts.

    Args:
        backbone: Set to evaluation mode.

    Returns:
        The blocks; empty if the run shows none.

    Raises:
        TypeError: The backbone runs on no frame of a usual size.
    """
    # A separate statement, because ``eval`` of some mmseg backbones does not return the backbone.
    backbone.eval()
    with _listening(backbone) as run:
        trial_outputs(backbone)
    shapes = {name: _geometry(call) for name, call in run.calls.items()}
    names = [name for name, shape in shapes.items() if shape is not None]
    outermost = [n for n in names if not any(n.startswith(f'{other}.') for other in names)]
    blocks: list[TracedBlock] = []
    before: Optional[Tensor] = None
    for name in sorted(outermost, key=lambda name: run.calls[name].place):
        call = run.calls[name]
        size = sum(p.numel() for p in backbone.get_submodule(name).parameters())
        blocks.append(TracedBlock(name, *shapes[name], size, follows=call.input is before))
        before = call.output
    return blocks


@contextmanager
def _listening(backbone: nn.Module) -> Iterator[_Run]:
    """Inside the context, records the calls of the latest run of the backbone."""
    run = _Run()

    def start(module: nn.Module, args: tuple) -> None:
        # A run on a frame of an unsuitable size stops in the middle.
        run.calls.clear()
        run.number = 0

    def enter(name: str):
        def hook(module: nn.Module, args: tuple) -> None:
            call = run.calls.setdefault(name, _Call())
            call.count, call.place, call.output = call.count + 1, run.number, None
            call.input = args[0] if args else None
            call.version = getattr(call.input, '_version', 0)
            run.number += 1

        return hook

    def leave(name: str):
        def hook(module: nn.Module, args: tuple, output: Any) -> None:
            run.calls[name].output = output

        return hook

    handles = [backbone.register_forward_pre_hook(start)]
    for name, module in _candidates(backbone):
        handles.append(module.register_forward_pre_hook(enter(name)))
        handles.append(module.register_forward_hook(leave(name)))
    try:
        yield run
    finally:
        for handle in handles:
            handle.remove()


def _candidates(backbone: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules with submodules in a list, or in a numbered row of attributes, of the backbone.

    A list of modules is no candidate, but its modules are. A block has at least two layers with
    weights for the channels (convolutions, linear layers): one convolution with its norm is none.
    """
    for name, parent in backbone.named_modules():
        children = dict(parent.named_children())
        if not _is_list(parent):
            rows = Counter(map(_without_number, children))
            children = {k: m for k, m in children.items() if rows[_without_number(k)] > 1}
        for key, module in children.items():
            if not _is_list(module) and _layers(module) > 1:
                yield f'{name}.{key}' if name else key, module


def _layers(module: nn.Module) -> int:
    """The number of convolutions, linear layers and other weights of two dimensions or more."""
    return sum(parameter.dim() > 1 for parameter in module.parameters())


def _without_number(name: str) -> str:
    """'layer' of 'layer12'; the name itself if no number ends it."""
    return name.rstrip('0123456789') if name[-1].isdigit() else f'{name}!'


def _is_list(module: nn.Module) -> bool:
    """Whether a module only holds others, or runs one after the other."""
    plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    return plain or isinstance(module, nn.ModuleList)


def _geometry(call: _Call) -> Optional[tuple[int, int, int]]:
    """(C_in, C_out, stride) of a block; None if the module is none."""
    x, y = call.input, call.output
    if call.count != 1 or not isinstance(x, Tensor) or not isinstance(y, Tensor):
        return None
    if x is y or x._version != call.version or x.dim() != y.dim() or x.dim() not in (3, 4):
        return None
    if x.dim() == 3:
        return (x.shape[2], y.shape[2], 1) if x.shape[1] == y.shape[1] else None
    (height, width), (rows, columns) = x.shape[2:], y.shape[2:]
    # One value a channel is no map, as in an attention by channels.
    if rows * columns <= 1:
        return None
    stride = round(height / rows)
    if stride < 1 or (-(-height // stride), -(-width // stride)) != (rows, columns):
        return None
    return x.shape[1], y.shape[1], stride
