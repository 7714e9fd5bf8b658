"""Exports a plain network as a program of ``torch.export``: a ``.pt2`` file."""

import io
import json
import warnings
from collections.abc import Mapping
from typing import Any, Callable

import torch
from torch import Tensor, nn

from .onnx_file import FORMAT, KEY

# Limits of the frames' sides in pixels, which torch needs for open sizes.
SMALLEST_SIDE, LARGEST_SIDE = 32, 8192


def check_torch() -> None:
    """Checks that the installed torch can export programs with open sizes.

    Raises:
        ValueError: torch cannot do so.
    """
    if not hasattr(getattr(torch, 'export', None), 'Dim'):
        raise ValueError(
            f'--format torch_export needs a torch with torch.export.Dim (2.2 or newer), and '
            f'{torch.__version__} is installed: use --format onnx'
        )


def takes(frame: Tensor) -> bool:
    """Whether a program with open sizes accepts a frame (..., H, W)."""
    return all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in frame.shape[-2:])


def exported_program(
    network: nn.Module, sample: Tensor, description: Mapping[str, Any], fixed_size: bool = False
) -> bytes:
    """Exports a network.

    Args:
        network: A ``PlainNetwork``.
        sample: (1, C, H, W), 0 to 255.
        description: Description that is written to the file as JSON.
        fixed_size: If True, the program accepts only frames in the sample's size.

    Returns:
        The content of the file.

    Raises:
        ValueError: torch cannot export the model.
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
    """Loads the content of a file of ``exported_program``; returns a function of a frame."""
    return torch.export.load(io.BytesIO(content)).module()
