"""Configs as the tools read them: one place for arguments, safe loading and clear errors."""

import argparse
import os
from pathlib import Path
from typing import Optional

from mmengine.config import Config, DictAction

from .distributed import prepare_cpu_launch
from .stack import force_safe_loading

# What the tools call the orders of a ``ContinualStream``.
STREAMS = {'continual': 'sequential', 'ramp': 'ramp', 'mixed': 'shuffled'}


def add_config_arguments(parser: argparse.ArgumentParser, checkpoint: bool = True) -> None:
    """Adds the arguments that all tools share, named as in mmseg's own tools."""
    parser.add_argument('config', help='config file')
    if checkpoint:
        parser.add_argument('checkpoint', help='weights of the source model')
        parser.add_argument(
            '--trust-checkpoint',
            action='store_true',
            help='load a checkpoint even if that runs code in it; only for files of your own',
        )
    parser.add_argument('--work-dir', help='folder for everything that is written')
    parser.add_argument('--seed', type=int, help='seed of all random generators')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: CUDA if there is one')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, as key=value; lists as key="[a,b]"',
    )
    parser.add_argument('--traceback', action='store_true', help='show where an error came from')


def load_config(args: argparse.Namespace) -> Config:
    """Reads the config and puts the command line's settings into it.

    Raises:
        ValueError: The file is missing, or is not a config.
    """
    force_safe_loading()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.device == 'cpu':
        # mmengine chooses its device from what it finds and has no argument for it.
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
        import mmengine.device.utils as device_utils

        device_utils.DEVICE = 'cpu'
    elif args.device == 'cuda':
        import torch

        if not torch.cuda.is_available():
            raise ValueError('--device cuda: torch finds no CUDA device here; use --device cpu')
    cfg = read_config(args.config)
    known = set(cfg.keys())
    if args.cfg_options:
        for key in args.cfg_options:
            top = key.split('.')[0]
            if '.' in key and top not in known:
                raise ValueError(
                    f'--cfg-options {key}: the config has no {top!r}; it has '
                    f'{", ".join(sorted(known))}'
                )
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    prepare_cpu_launch(cfg)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if args.seed is not None:
        with_seed(cfg, args.seed)
    return cfg


def read_config(path) -> Config:
    """Reads a config file, base files and all.

    Raises:
        ValueError: It is missing, cannot be parsed, or a base of it is missing.
    """
    if not Path(path).is_file():
        raise ValueError(f'expected a config file, but {path} does not exist')
    try:
        return Config.fromfile(str(path))
    except Exception as error:  # A config is code: anything can come out of it.
        reason = (str(error).strip().splitlines() or [''])[-1]
        raise ValueError(
            f'the config {path} cannot be read: {type(error).__name__}: {reason}'
        ) from None


def with_method(cfg: Config, name: str, configs: Path) -> None:
    """Puts the method ``configs/_base_/adaptation/<name>.py`` into a config.

    Settings that the config makes for the same method stay. Where both have meta networks their
    norm stays: it goes with the model (LayerNorm on tokens), not with the method.

    Raises:
        ValueError: There is no such file.
    """
    folder = configs / '_base_' / 'adaptation'
    known = sorted(path.stem for path in folder.glob('*.py'))
    if name not in known:
        raise ValueError(f'--method {name}: expected one of {", ".join(known)}')
    if (cfg.get('method') or (cfg.get('adaptation') or {}).get('type')) == name:
        return
    before = with_meta_networks(cfg.get('adaptation'))
    cfg.adaptation = read_config(folder / f'{name}.py').adaptation
    after = with_meta_networks(cfg.adaptation)
    if before is not None and after is not None and 'norm' in before['meta_networks']:
        after['meta_networks']['norm'] = before['meta_networks']['norm']


def with_meta_networks(adaptation: Optional[dict]) -> Optional[dict]:
    """The options with meta networks: a method's own, or those of the one that it is around."""
    for options in (adaptation or {}, (adaptation or {}).get('method') or {}):
        if 'meta_networks' in options:
            return options
    return None


def with_seed(cfg: Config, seed: int) -> None:
    """Puts the seed of all random generators into a config, those that methods own included."""
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    adaptation = cfg.get('adaptation') or {}
    for options in (adaptation, adaptation.get('method') or {}):
        # CoTTA's restoring has a generator of its own, which is saved with the stream.
        if options.get('type') == 'cotta':
            options['seed'] = seed


def with_stream(cfg: Config, name: Optional[str], seed: Optional[int] = None) -> None:
    """Chooses the order of the stream that a config tests on, and its seed.

    Args:
        cfg: With a ``ContinualStream`` as its test data set.
        name: ``'continual'`` (condition after condition, with hard boundaries), ``'ramp'`` (each
            condition builds up and clears again) or ``'mixed'`` (frame by frame another
            condition); None leaves it.
        seed: Of the weather in every frame (``AdverseWeather``) and of the mixed order: another
            one gives another stream of the same kind. None leaves both.

    Raises:
        ValueError: The name is unknown or the data set is no ``ContinualStream``.
    """
    dataset = cfg.test_dataloader.dataset
    if name is not None and name not in STREAMS:
        raise ValueError(f'--stream {name}: expected one of {", ".join(STREAMS)}')
    if dataset.get('type') != 'ContinualStream':
        raise ValueError(
            'choosing a stream or its seed needs a ContinualStream as the test data set, not '
            f'{dataset.get("type")}'
        )
    if name is not None:
        dataset.order = STREAMS[name]
    if seed is not None:
        dataset.seed = seed
        for transform in dataset.dataset.get('pipeline') or ():
            if transform.get('type') == 'AdverseWeather':
                transform.seed = seed


def with_resume(cfg: Config) -> None:
    """Makes the run of a config go on from the newest state in its work dir."""
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(hook.get('type') == 'StreamStateHook' for hook in hooks):
        hooks.append(dict(type='StreamStateHook'))
    cfg.custom_hooks = [
        dict(hook, resume=True) if hook.get('type') == 'StreamStateHook' else hook for hook in hooks
    ]
