"""Reads and changes configs for the tools: names, hooks and data, with clear errors."""

import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from ..names.type_names import is_a, type_name
from ..startup.first_look import check_pictures
from ..startup.zoo_names import own_config
from .checks import check_version
from .environment import config_from_file
from .old_keys import OLD_KEYS, rename_old_keys

# The keys that affect the result of a test. Other keys concern output or training.
RESULT_KEYS = (
    *('model', 'data_preprocessor', 'adaptation', 'estimate', 'views', 'class_names'),
    *('test_dataloader', 'test_evaluator', 'test_cfg', 'calibration_dataloader'),
    *('forgetting_dataloader', 'randomness', 'custom_hooks'),
)

# The names that mmengine and this package read. Other names are a config's own variables.
READ_NAMES = {
    '': (
        # The arguments of mmengine's Runner; the Runner itself would import torch.
        *('model', 'work_dir', 'launcher', 'default_scope', 'randomness', 'experiment_name'),
        *('train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg'),
        *('test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator'),
        *('test_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from'),
        *('resume', 'env_cfg', 'log_processor', 'log_level', 'visualizer'),
        *('adaptation', 'calibration_dataloader', 'class_names', 'forgetting_dataloader', 'method'),
        *('custom_imports', 'estimate', 'views', 'vis_backends', *OLD_KEYS),
    ),
    'default_hooks': (
        *('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'),
        'visualization',
    ),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
}
# Names in mmseg's zoo that only look like misspelt ones.
_NO_MISTAKES = ('models', 'custom_keys')
# Hooks that measure and report; a config made for mmseg's own tools/test.py has none of them.
_REPORTING = (
    *('SourceReferenceHook', 'ForgettingHook', 'LabelFreeHook', 'MemoryHook', 'StreamProgressHook'),
    *('LiveViewHook', 'StreamPlotHook', 'ResultsHook', 'ReportHook'),
)


def read_config(path) -> Config:
    """Reads a config file with its base files.

    If this package is loaded, the config's ``custom_imports`` are imported. Otherwise call
    ``import_custom_modules`` after the package is loaded.

    Args:
        path: The file, or the name of a config of a package, such as ``'ecotta_seg::demo.py'``.

    Raises:
        ValueError: The config or one of its bases is missing, the config cannot be parsed or is
            made for mmseg 0.x, or a name in the config is misspelt.
    """
    path = own_config(str(path)) or path
    if not Path(path).is_file():
        raise ValueError(f'expected a config file, but {path} does not exist')
    try:
        cfg = config_from_file(str(path))
    except (Exception, SystemExit) as error:  # A config is code and can raise anything.
        raise _unreadable(path, error) from None
    check_version(cfg, path)
    rename_old_keys(cfg)
    check_names(cfg, f'the config {path}')
    if 'ecotta_seg.methods' in sys.modules:
        import_custom_modules(cfg)
    return cfg


def import_custom_modules(cfg: Config) -> None:
    """Imports the modules in a config's ``custom_imports``.

    Raises:
        ValueError: A module cannot be imported.
    """
    if not cfg.get('custom_imports'):
        return
    try:
        import_modules_from_strings(**cfg.custom_imports)
    except (Exception, SystemExit) as error:
        # mmengine replaces an ImportError by one without the reason.
        reason = (error.__context__ if isinstance(error, ImportError) else None) or error
        missing = isinstance(reason, ModuleNotFoundError)
        remedy = ': install the module, or add its folder to PYTHONPATH' if missing else ''
        raise ValueError(f'`custom_imports` cannot be imported: {_short(reason)}{remedy}') from None


def _short(error: BaseException) -> str:
    reason = (str(error).strip().splitlines() or [''])[-1]
    return f'{type(error).__name__}: {reason}'


def _unreadable(path, error: BaseException) -> ValueError:
    return ValueError(f'the config {path} cannot be read: {_short(error)}')


def check_names(cfg: Config, where: str) -> None:
    """Refuses names that nothing reads and that differ from a known name by a letter or two.

    mmengine accepts any name as a config's own variable. With a misspelt ``test_dataloder``, the
    base's ``test_dataloader`` would silently stay in use.

    Args:
        cfg: The config.
        where: The place of the names, for the message.

    Raises:
        ValueError: A name is misspelt; the message states the name and the likely correct name.
    """
    for place, read in READ_NAMES.items():
        names = cfg.get(place) if place else cfg
        for name in names if isinstance(names, Mapping) or names is cfg else ():
            if name in read or name in _NO_MISTAKES:
                continue
            close = difflib.get_close_matches(str(name), read, n=1, cutoff=0.8)
            # A config's own variables are often named after the key that uses them: model_2.
            if close and not str(name).startswith(f'{close[0]}_'):
                raise ValueError(
                    f'{where}: nothing reads {place + "." if place else ""}{name}; did you mean '
                    f'{close[0]!r}? Give a variable of your own another name'
                )


def with_reporting(cfg: Config) -> None:
    """Adds missing hooks and metrics, so that the test of any mmseg config adapts and reports.

    A config with the three added lines of the README has only its own evaluator and
    ``EcoTTAHook``.
    """
    hooks = list(cfg.get('custom_hooks') or [])

    def lacks(kind: str) -> bool:
        return not any(is_a(hook, kind) for hook in hooks)

    if lacks('EcoTTAHook'):
        hooks.append(dict(type='EcoTTAHook'))
    if lacks('ResultsHook'):
        hooks += [dict(type=name) for name in _REPORTING if lacks(name)]
    cfg.custom_hooks = hooks
    if cfg.get('test_cfg') is None:
        cfg.test_cfg = dict()
    metrics = cfg.get('test_evaluator') or dict(type='PerConditionIoU')
    cfg.test_evaluator = metrics
    metrics = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
    metrics = [metric for metric in metrics if metric is not None]
    if metrics and not any(is_a(metric, 'PerConditionIoU') for metric in metrics):
        # A prefix, because mmengine refuses two metrics that both return an 'mIoU'.
        cfg.test_evaluator = [*metrics, dict(type='PerConditionIoU', prefix='per_condition')]


def with_calibration(cfg: Config, folder: str) -> None:
    """Sets the folder of pictures for a method's calibration, see ``EcoTTAHook``.

    Raises:
        ValueError: The folder does not exist.
    """
    check_pictures(folder)
    cfg.custom_hooks = [
        dict(hook, calibrate=folder) if is_a(hook, 'EcoTTAHook') else hook
        for hook in cfg.custom_hooks
    ]


def with_resume(cfg: Config) -> None:
    """Makes the run of a config resume from the newest state in its work dir."""
    hooks = list(cfg.get('custom_hooks') or [])
    if not any(is_a(hook, 'StreamStateHook') for hook in hooks):
        hooks.append(dict(type='StreamStateHook'))
    for index, hook in enumerate(hooks):
        if is_a(hook, 'StreamStateHook'):
            if isinstance(hook, Mapping):
                hooks[index] = dict(hook, resume=True)
            else:
                hook.resume = True
    cfg.custom_hooks = hooks


def inner_dataset(cfg: Config) -> Mapping:
    """Returns the config of a test's innermost data set, inside all wrappers; empty if missing."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return dataset


def unlabelled_steps(pipeline: Sequence[Mapping]) -> list[dict]:
    """Returns the steps of a pipeline, except those that load labels or make weather."""
    kept = []
    for step in pipeline:
        if type_name(step) not in ('LoadAnnotations', 'AdverseWeather'):
            kept.append(dict(step))
    return kept
