"""Fisher information of a model's own predictions: the importance of each parameter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..files.torch_file import load_whole, save_whole

_FORMAT = 'ecotta_seg fisher'


def pseudo_label_gradients(
    logits: Tensor, parameters: Sequence[nn.Parameter], share: float = 1.0
) -> list[Tensor]:
    """Gradients of the negative log-likelihood of the model's most likely classes.

    Their squares are the diagonal of the empirical Fisher information, with the frame as the
    sample. EATA (arXiv 2204.02610, Eq. 9) and LAW (arXiv 2311.05858, Eq. 3) both replace the
    unknown label by the model's own argmax. The graph is kept for the method's loss.

    Args:
        logits: (N, C, H, W) with graph.
        parameters: Parameters with ``requires_grad=True``.
        share: Weight of this sliding window in the frame's loss; 1 for a whole frame.

    Returns:
        A gradient for each parameter, of the same shape; zeros if the logits do not depend on the
        parameter.
    """
    loss = share * F.cross_entropy(logits, logits.detach().argmax(dim=1))
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)]


def write_fisher(information: Mapping[str, Tensor], path: Union[str, Path]) -> None:
    """Writes Fisher information (a tensor for each parameter name) to a file, atomically."""
    state = {'format': _FORMAT, 'fisher': {k: v.detach().cpu() for k, v in information.items()}}
    save_whole(state, path)


def read_fisher(path: Union[str, Path], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads a file of ``write_fisher`` without running any code in the file.

    Args:
        path: The file.
        parameters: The parameters that the file must fit, by name.

    Returns:
        The Fisher information by parameter name, on the devices of the parameters.

    Raises:
        ValueError: The file is missing, damaged, or of another model.
    """
    if not Path(path).is_file():
        raise ValueError(f'expected a file of Fisher information, but {path} does not exist')
    try:
        state = load_whole(path)
    except Exception:  # A damaged pickle may raise any exception.
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
