"""A plain network as a program of ``torch.export``: a ``.pt2`` file."""

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any, Callable

import torch
from torch import Tensor, nn

from ..adaptation.reduced_frame import SMALLEST_SIDE
from .onnx_file import FORMAT, KEY

# The largest side of a frame, in pixels: torch wants a limit to reason with.
_LARGEST_SIDE = 8192
_SMALLEST = 64


def check_torch() -> None:
    """Looks whether torch can export programs with sizes that are open.

    Raises:
        ValueError: It cannot.
    """
    if not hasattr(getattr(torch, 'export', None), 'Dim'):
        raise ValueError(
            f'--format torch_export needs a torch with torch.export.Dim (2.2 or newer), and '
            f'{torch.__version__} is installed: use --format onnx'
        )


def exported_program(
    network: nn.Module, sample: Tensor, description: Mapping[str, Any], fixed_size: bool = False
) -> bytes:
    """Exports a network.

    Args:
        network: A ``PlainNetwork``. If it has a gate, the program takes frames that are probed as
            the sample is: those whose shorter side is at least 256 pixels, or those below.
        sample: (1, C, H, W), 0 to 255.
        description: Kept in the file as JSON.
        fixed_size: Whether the program takes frames of the sample's size alone.

    Returns:
        The content of the file.

    Raises:
        ValueError: The model has an operation that cannot be exported.
    """
    shapes = None
    if not fixed_size:
        least, most = side_limits(network)
        sides = [torch.export.Dim(name, min=least, max=most) for name in ('height', 'width')]
        shapes = ({2: sides[0], 3: sides[1]},)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            program = torch.export.export(network, (sample,), dynamic_shapes=shapes, strict=False)
            program = program.run_decompositions()
    except Exception as error:  # What torch raises depends on what it stumbles over.
        reason = next((line for line in str(error).splitlines() if line.strip()), '')
        raise ValueError(
            'expected a model that torch.export can export, but it could not '
            f'({type(error).__name__}: {reason.strip()}): try --fixed-size, or --format onnx'
        ) from error
    written = io.BytesIO()
    text = json.dumps({'format': FORMAT, **description})
    torch.export.save(program, written, extra_files={f'{KEY}.json': text})
    return written.getvalue()


def side_limits(network: nn.Module) -> tuple[int, int]:
    """The least and the largest side of the frames that a program takes, in pixels."""
    gate = getattr(network, 'gate_in_float32', None)
    if gate is None or gate.scale == 1:
        return _SMALLEST, _LARGEST_SIDE
    limit = int(SMALLEST_SIDE / gate.scale)
    return (_SMALLEST, limit - 1) if gate.whole else (limit, _LARGEST_SIDE)


def loaded_program(content: bytes) -> Callable[[Tensor], Any]:
    """What runs a program that ``exported_program`` gave."""
    return torch.export.load(io.BytesIO(content)).module()
