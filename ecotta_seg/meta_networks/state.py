"""Adapter files: they hold the meta networks alone and are refused if they do not fit the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional, Union

import torch

from ..files.torch_file import load_whole, save_whole
from ..startup.first_look import check_adapters
from ..version import __version__
from .encoder import AdaptedEncoder
from .meta_encoder import MetaEncoder

_FORMAT = 'ecotta_seg adapters'


def save_adapters(
    encoder: MetaEncoder,
    path: Union[str, Path],
    calibration: Optional[Mapping[str, torch.Tensor]] = None,
) -> None:
    """Writes the meta networks' parameters and buffers to ``path`` atomically.

    Args:
        encoder: The encoder with the meta networks.
        path: The file.
        calibration: A method's measurements on clear frames, by name. The file stores them, so
            that the next run needs no clear frames.
    """
    state = {
        'format': _FORMAT,
        'version': __version__,
        'split': list(encoder.split),
        'kind': encoder.kind,
        'backbone': type(encoder.backbone).__name__,
        'state_dict': {k: v.cpu().clone() for k, v in encoder.meta_networks.state_dict().items()},
    }
    if calibration:
        state['calibration'] = {k: v.detach().cpu().clone() for k, v in calibration.items()}
    save_whole(state, path)


def load_adapters(
    encoder: MetaEncoder, path: Union[str, Path]
) -> Optional[dict[str, torch.Tensor]]:
    """Loads a file of ``save_adapters`` into an encoder of the same model and split.

    If anything does not fit, the encoder stays unchanged.

    Returns:
        The calibration in the file, or None.

    Raises:
        ValueError: See ``read_adapters``.
    """
    state = read_adapters(encoder, path)
    encoder.meta_networks.load_state_dict(state['state_dict'])
    return state.get('calibration')


def read_adapters(encoder: MetaEncoder, path: Union[str, Path]) -> dict:
    """Reads a file of ``save_adapters`` and checks it, but leaves the encoder unchanged.

    No code in the file is executed.

    Returns:
        ``'state_dict'``, which fits ``encoder.meta_networks``, and ``'calibration'``, if the file
        has one.

    Raises:
        ValueError: The file is missing, damaged, not an adapters file, or made for another model;
            the message names the mismatches.
    """
    path = Path(path)
    check_adapters(path)
    try:
        state = load_whole(path)
    except Exception as error:  # The exception type depends on where the pickle is damaged.
        reason = (str(error).splitlines() or [''])[0].split('. ')[0]
        reason = reason if ' ' in reason else type(error).__name__
        raise ValueError(
            f'{path} is damaged or not an adapters file ({reason}): write it again with '
            'tools/warm_up.py'
        ) from None
    if not _is_adapters(state):
        raise ValueError(
            f'{path} is not an adapters file: expected one that tools/warm_up.py wrote'
        )
    _check_fit(encoder, state, path)
    return state


def _is_adapters(state: object) -> bool:
    if not isinstance(state, Mapping) or state.get('format') != _FORMAT:
        return False
    return (
        isinstance(state.get('backbone'), str)
        and isinstance(state.get('split'), Sequence)
        and _are_tensors(state.get('state_dict'))
        and ('calibration' not in state or _are_tensors(state['calibration']))
    )


def _are_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items()
    )


def _check_fit(encoder: MetaEncoder, state: dict, path: Path) -> None:
    expected, found = encoder.meta_networks.state_dict(), state['state_dict']
    problems = []
    backbone = type(encoder.backbone).__name__
    if state['backbone'] != backbone:
        problems.append(f'they were made for a {state["backbone"]}, the model has a {backbone}')
    kind = state.get('kind', AdaptedEncoder.kind)
    if kind != encoder.kind:
        problems.append(f'they are {kind} meta networks, the config asks for {encoder.kind} ones')
    if list(state['split']) != list(encoder.split):
        problems.append(f'their split is {state["split"]}, the config asks for {encoder.split}')
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            problems.append(f'{name} is missing')
        elif name not in expected:
            problems.append(f'{name} is unknown to the model')
        elif expected[name].shape != found[name].shape:
            problems.append(
                f'{name} has shape {tuple(found[name].shape)}, '
                f'the model needs {tuple(expected[name].shape)}'
            )
        elif not found[name].isfinite().all():
            problems.append(f'{name} is not finite')
    if problems:
        shown = '; '.join(problems[:4])
        more = f'; and {len(problems) - 4} more' if len(problems) > 4 else ''
        raise ValueError(
            f'the adapters in {path} do not fit this model: {shown}{more}. Use the config that '
            'they were warmed up with'
        )
