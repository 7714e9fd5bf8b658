"""A plain network as a program of ``torch.export``: a ``.pt2`` file."""

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any, Callable

import torch
from torch import Tensor, nn

from .onnx_file import FORMAT, KEY

# Sides of frames in pixels: torch wants limits to reason with.
SMALLEST_SIDE, LARGEST_SIDE = 32, 8192


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


def takes(frame: Tensor) -> bool:
    """Whether a program of open sizes takes a frame (..., H, W)."""
    return all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in frame.shape[-2:])


def exported_program(
    network: nn.Module, sample: Tensor, description: Mapping[str, Any], fixed_size: bool = False
) -> bytes:
    """Exports a network.

    Args:
        network: A ``PlainNetwork``.
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
        if not takes(sample):
            raise ValueError(
                f'--format torch_export takes frames of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels a '
                f'side, got {sample.shape[3]}x{sample.shape[2]}: use --fixed-size'
            )
        sides = [
            torch.export.Dim(name, min=SMALLEST_SIDE, max=LARGEST_SIDE)
            for name in ('height', 'width')
        ]
        shapes = ({2: sides[0], 3: sides[1]},)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            program = torch.export.export(network, (sample,), dynamic_shapes=shapes, strict=False)
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


def loaded_program(content: bytes) -> Callable[[Tensor], Any]:
    """What runs a program that ``exported_program`` gave."""
    return torch.export.load(io.BytesIO(content)).module()
