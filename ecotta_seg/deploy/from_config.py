"""Exports a network, given a config, a checkpoint and a run's learned state."""

import argparse
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..apis import init_adaptive_segmentor
from ..methods import AdaptationMethod
from ..resume.run_identity import source_digest
from ..resume.state_file import StateFileError, read_state
from .check_frames import check_frames
from .export import export_network

# Options of a method that are not part of the network.
_AROUND = ('estimate', 'memory_budget', 'compute_budget', 'autocast')


def export_from_config(cfg: Config, path: Path, args: argparse.Namespace) -> Iterator[str]:
    """Exports the adapted network that a config describes.

    Args:
        cfg: The config.
        path: The file.
        args: The parsed arguments of ``tools/export.py``.

    Yields:
        Messages on the progress and the result.

    Raises:
        ValueError: See ``init_adaptive_segmentor``, ``take_state`` and ``export_network``.
    """
    options = deepcopy(cfg.get('adaptation'))
    if options is None:
        options = dict(type='source')
    left_out = _without_surroundings(options)
    if cfg.get('estimate'):
        left_out.add('estimate')
    built = init_adaptive_segmentor(
        cfg,
        args.checkpoint,
        'cpu',
        method=options,
        adapters=args.adapters,
        guard=False,
        trust_checkpoint=args.trust_checkpoint,
        estimate=False,
    )
    method = built.method
    if cfg.get('views'):
        method.use_views(cfg.views)
    if args.state:
        yield f'the state was saved at frame {take_state(method, args.state)} of its stream'
    frames = check_frames(cfg, method.segmentor, args.frames, args.check)
    exported = export_network(
        method,
        path,
        frames.frames,
        args.format,
        half=args.half,
        features=args.features,
        strength=args.strength,
        fixed_size=args.fixed_size,
        tolerance=args.tolerance,
        description=dict(
            summary=f'{type(method).__name__} exported by ecotta_seg',
            method=str(cfg.get('method') or options.get('type')),
            classes=list(built.meta.classes),
            palette=[list(colour) for colour in built.meta.palette],
        ),
    )
    network = exported.network
    yield (
        f'{network.folded} norms are folded into convolutions, {network.by_frame} measure the '
        f'frame; {network.kept} meta networks are in the network'
        + (f', {network.left_out} change nothing and are left out' if network.left_out else '')
        + ('; the gate by shift is in it' if network.gate_in_float32 is not None else '')
    )
    follow = [m for m in network.modules() if getattr(m, 'mode', None) == 'calibrated']
    if follow:
        since = 'as the state has it' if args.state else 'at its start'
        yield (
            'note: the network does not follow a stream: the moving average of its '
            f'{len(follow)} norms stays {since}'
        )
    if left_out:
        yield f'note: {", ".join(sorted(left_out))} of the method is not part of a network'
    yield f'{frames.origin}, {exported.agreement.sentence()}'
    yield f'{path}: {exported.size / 2**20:.1f} MiB'


def take_state(method: AdaptationMethod, path: str) -> int:
    """Loads the saved state of a run into a method.

    Args:
        method: A method that was built with the config and the checkpoint of the run.
        path: The work directory of the run, or one file of a saved state.

    Returns:
        The number of frames that the run had finished when the state was saved.

    Raises:
        ValueError: There is no complete saved state, or it belongs to another run.
    """
    newest = [Path(path)]
    if Path(path).is_dir():
        folders = (Path(path), Path(path) / 'state')
        found = [file for folder in folders for file in folder.glob('stream_state_rank0_*.pth')]
        newest = sorted(found, key=lambda file: file.name, reverse=True)
        if not newest:
            raise ValueError(
                f'--state: expected the work dir of a run, but {path} has no saved state: a run '
                'saves one every 20 frames, see docs/resume.md'
            )
    damaged = None
    for file in newest:
        try:
            state = read_state(file)
        except StateFileError as error:
            damaged = damaged or error
            continue
        return _taken(method, state, file)
    raise ValueError(f'--state: no saved state is complete: {damaged}')


def _taken(method: AdaptationMethod, state: Mapping[str, Any], file: Path) -> int:
    identity = state.get('identity')
    if not isinstance(identity, Mapping) or 'method' not in state:
        raise ValueError(f'--state: {file} is not the state of a stream')
    if identity.get('source') != source_digest(method):
        raise ValueError(
            f'--state: {file} belongs to a run with another source model: give the config and '
            'the checkpoint of that run'
        )
    method.load_method_state(state['method'])
    return int(state['position'])


def _without_surroundings(options: dict[str, Any]) -> set[str]:
    """Removes those options of a method that are not part of a network; returns their names."""
    return {name for name in _AROUND if options.pop(name, None)}
