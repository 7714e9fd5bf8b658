"""The arguments that all tools share; they change the config before libraries are imported."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config

from ..config.checks import check_packages
from ..config.config import READ_NAMES, check_names, import_custom_modules, read_config
from ..config.method import with_seed
from ..config.options import Options
from ..config.visualizer import with_vis_backends
from ..names.method_options import check_method_options
from ..startup.first_look import check_checkpoint, check_device
from ..startup.stack import force_safe_loading
from .command_line import PROCESS_FLAGS
from .loading import load_package


def add_config_arguments(parser: argparse.ArgumentParser, checkpoint: bool = True) -> None:
    """Adds the arguments that all tools share, named as in mmseg's own tools."""
    parser.add_argument(
        'config', help='config file, or a config of this package: ecotta_seg::demo.py'
    )
    if checkpoint:
        parser.add_argument('checkpoint', help='weights of the source model')
        parser.add_argument(
            '--trust-checkpoint',
            action='store_true',
            help='load a checkpoint even if that runs code in it; only for files of your own',
        )
    parser.add_argument('--work-dir', help='folder for all output files')
    parser.add_argument('--seed', type=int, help='seed of all random generators')
    parser.add_argument('--device', choices=('cpu', 'cuda'), help='default: CUDA if available')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        help='settings to override, as key=value; lists as key="[a,b]", a text with commas as '
        'key="\'a,b\'"',
    )
    parser.add_argument('--traceback', action='store_true', help='show the traceback of an error')
    for flag, text in PROCESS_FLAGS.items():
        parser.add_argument(flag, action='store_true', help=text)


def add_show_log(parser: argparse.ArgumentParser) -> None:
    """Adds the argument ``--show-log`` of the tools that run a Runner."""
    parser.add_argument(
        '--show-log',
        action='store_true',
        help='show the whole log on screen; by default settings and versions go only to the log '
        'file, WORK_DIR/TIME/TIME.log',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Reads the config and applies the command line's settings, without importing torch.

    Raises:
        ValueError: The file is missing or not a config, a name in the config or among the options
            is misspelt, or the checkpoint or device does not exist.
    """
    force_safe_loading()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    check_device(args.device)
    if getattr(args, 'checkpoint', None) is not None:
        check_checkpoint(args.checkpoint)
    cfg = read_config(args.config)
    known = set(cfg.keys())
    if args.cfg_options:
        for key in args.cfg_options:
            top = key.split('.')[0]
            if top not in known and top not in READ_NAMES['']:
                raise ValueError(
                    f'--cfg-options {key}: the config has no {top!r}; it has '
                    f'{", ".join(sorted(known))}'
                )
        cfg.merge_from_dict(args.cfg_options)
        check_names(cfg, '--cfg-options')
    check_packages(cfg, args.config)
    if not isinstance(cfg.get('adaptation') or {}, Mapping):
        raise ValueError(
            f'{args.config}: expected `adaptation` to be a dict with `type`, got {cfg.adaptation!r}'
        )
    if getattr(args, 'method', None) is None:
        check_method_options(cfg.get('adaptation') or {})
    if cfg.get('default_scope') is None:
        cfg.default_scope = 'mmseg'
    with_vis_backends(cfg)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config.rpartition('::')[2]).stem)
    if args.seed is not None:
        with_seed(cfg, args.seed)
    return cfg


def start_run(cfg: Config, args: argparse.Namespace) -> None:
    """Imports the libraries and the config's custom modules, then sets device and launcher.

    Args:
        cfg: From ``load_config``.
        args: The same arguments.

    Raises:
        StackError: A library is missing, broken or too old.
        ValueError: A custom module cannot be imported, or torch finds no CUDA device.
    """
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    load_package()
    import_custom_modules(cfg)
    if args.device == 'cpu':
        # mmengine chooses the device itself and has no argument for it.
        import mmengine.device.utils as device_utils

        device_utils.DEVICE = 'cpu'
    elif args.device == 'cuda':
        import torch

        if not torch.cuda.is_available():
            raise ValueError('--device cuda: torch finds no CUDA device here; use --device cpu')
    from ..distributed import prepare_cpu_launch

    prepare_cpu_launch(cfg)
