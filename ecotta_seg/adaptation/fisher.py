"""Fisher information of a model's own predictions: how much each parameter matters to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archive_check import load_whole
from ..atomic_io import atomic_write

_FORMAT = 'ecotta_seg fisher'


def pseudo_label_gradients(
    logits: Tensor, parameters: Sequence[nn.Parameter], share: float = 1.0
) -> list[Tensor]:
    """Gradients of the negative log-likelihood of the model's most likely classes.

    Their squares are the diagonal of the empirical Fisher information, with the frame as the
    sample: EATA (arXiv 2204.02610, Eq. 9) and LAW (arXiv 2311.05858, Eq. 3) both take the model's
    own argmax for the unknown label. The graph is kept for the loss that is learned from.

    Args:
        logits: (N, C, H, W) with graph.
        parameters: With ``requires_grad``.
        share: Weight of the window in its frame.

    Returns:
        A tensor for each parameter, of its shape; zeros where it has no part in the logits.
    """
    loss = share * F.cross_entropy(logits, logits.detach().argmax(dim=1))
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)]


def write_fisher(information: Mapping[str, Tensor], path: Union[str, Path]) -> None:
    """Writes the information by parameter name, whole or not at all."""
    state = {'format': _FORMAT, 'fisher': {k: v.detach().cpu() for k, v in information.items()}}
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def read_fisher(path: Union[str, Path], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads what ``write_fisher`` wrote, without running any code in it.

    Args:
        path: The file.
        parameters: Those that it has to fit, by name.

    Returns:
        The information by parameter name, on the parameters' devices.

    Raises:
        ValueError: The file is missing, damaged, or of another model.
    """
    if not Path(path).is_file():
        raise ValueError(f'expected a file of Fisher information, but {path} does not exist')
    try:
        state = load_whole(path)
    except Exception:  # What a damaged pickle raises depends on where it is damaged.
        state = None
    found = state.get('fisher') if isinstance(state, dict) else None
    if not isinstance(found, dict) or state.get('format') != _FORMAT:
        raise ValueError(f'{path} is damaged or no Fisher information: write it anew')
    for name in parameters.keys() | found.keys():
        here, there = parameters.get(name), found.get(name)
        if here is None or not isinstance(there, Tensor) or here.shape != there.shape:
            raise ValueError(
                f'the Fisher information in {path} is of another model: {name} is missing, '
                'unknown or of another shape; write it with the config that it is used with'
            )
    return {name: found[name].to(p.device, p.dtype) for name, p in parameters.items()}
