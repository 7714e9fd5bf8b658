"""Configs as the tools read them: names, methods, hooks and clear errors."""

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from .config_checks import check_version
from .config_environment import config_from_file
from .first_look import check_pictures
from .type_names import is_a, type_name
from .zoo_names import own_config

# What the result of a test depends on; all else is where and how it is written, or of the training.
RESULT_KEYS = (
    *('model', 'data_preprocessor', 'adaptation', 'estimate', 'views', 'class_names'),
    *('test_dataloader', 'test_evaluator', 'test_cfg', 'calibration_dataloader'),
    *('clear_dataloader', 'randomness', 'custom_hooks'),
)

# What mmengine and this package read of a config. Other names are a config's own variables.
READ_NAMES = {
    '': (
        # The arguments of mmengine's Runner; the Runner itself would import torch.
        *('model', 'work_dir', 'launcher', 'default_scope', 'randomness', 'experiment_name'),
        *('train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg'),
        *('test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator'),
        *('test_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from'),
        *('resume', 'env_cfg', 'log_processor', 'log_level', 'visualizer'),
        *('adaptation', 'calibration_dataloader', 'class_names', 'clear_dataloader', 'method'),
        *('custom_imports', 'estimate', 'views', 'vis_backends'),
    ),
    'default_hooks': (
        *('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'),
        'visualization',
    ),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
}
# Names in mmseg's zoo that only look like one of them.
_NO_MISTAKES = ('models', 'custom_keys')
# What measures and reports; a config made for mmseg's own tools/test.py has none of it.
_REPORTING = (
    *('SourceReferenceHook', 'ForgettingHook', 'LabelFreeHook', 'MemoryHook', 'StreamProgressHook'),
    *('LiveViewHook', 'StreamPlotHook', 'ResultsHook', 'ReportHook'),
)


def read_config(path) -> Config:
    """Reads a config file, base files and all.

    Its ``custom_imports`` are imported if this package is loaded; else ``import_custom_modules`` is
    to be called when the package is.

    Args:
        path: The file, or the name of a config of a package, such as ``'ecotta_seg::demo.py'``.

    Raises:
        ValueError: It is missing, cannot be parsed, is of mmseg 0.x, a base of it is missing, or a
            name in it is misspelt.
    """
    path = own_config(str(path)) or path
    if not Path(path).is_file():
        raise ValueError(f'expected a config file, but {path} does not exist')
    try:
        cfg = config_from_file(str(path))
    except (Exception, SystemExit) as error:  # A config is code: anything can come out of it.
        raise _unreadable(path, error) from None
    check_version(cfg, path)
    check_names(cfg, f'the config {path}')
    if f'{__package__}.adaptation' in sys.modules:
        import_custom_modules(cfg)
    return cfg


def import_custom_modules(cfg: Config) -> None:
    """Imports what a config asks for with ``custom_imports``.

    Raises:
        ValueError: A module cannot be imported.
    """
    if not cfg.get('custom_imports'):
        return
    try:
        import_modules_from_strings(**cfg.custom_imports)
    except (Exception, SystemExit) as error:
        raise _unreadable(cfg.filename, error) from None


def _unreadable(path, error: BaseException) -> ValueError:
    reason = (str(error).strip().splitlines() or [''])[-1]
    return ValueError(f'the config {path} cannot be read: {type(error).__name__}: {reason}')


def check_names(cfg: Config, where: str) -> None:
    """Refuses names that nothing reads and that are a letter or two away from one that is read.

    mmengine takes any name for a variable of the config's own, so that a misspelt
    ``test_dataloder`` would leave the base's in force without a word.

    Args:
        cfg: The config.
        where: What the message says that the name is in.

    Raises:
        ValueError: Naming the key and the likely one it was meant to be.
    """
    for place, read in READ_NAMES.items():
        names = cfg.get(place) if place else cfg
        for name in names if isinstance(names, Mapping) or names is cfg else ():
            if name in read or name in _NO_MISTAKES:
                continue
            close = difflib.get_close_matches(str(name), read, n=1, cutoff=0.8)
            # A variable of one's own is often named after what it goes into: model_2.
            if close and not str(name).startswith(f'{close[0]}_'):
                raise ValueError(
                    f'{where}: nothing reads {place + "." if place else ""}{name}; did you mean '
                    f'{close[0]!r}? Give a variable of your own another name'
                )


def with_reporting(cfg: Config) -> None:
    """Makes the test of any mmseg config adapt, report and show its progress: adds what it lacks.

    A config of three added lines (see the README) has its own evaluator and ``EcoTTAHook`` alone.
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
        # A prefix, because mmengine refuses two metrics that both give an 'mIoU'.
        cfg.test_evaluator = [*metrics, dict(type='PerConditionIoU', prefix='per_condition')]


def method_file(name: str, configs: Path) -> Path:
    """The file with a method's settings: ``configs/_base_/adaptation/<name>.py``.

    A name that ends with ``.py`` is a file of your own, such as ``tools/choose.py`` writes.

    Raises:
        ValueError: There is no such method.
    """
    if name.endswith('.py'):
        if not Path(name).is_file():
            raise ValueError(
                f'--method {name}: expected a file with a method, which does not exist'
            )
        return Path(name)
    folder = configs / '_base_' / 'adaptation'
    known = sorted(path.stem for path in folder.glob('*.py'))
    if name not in known:
        raise ValueError(f'--method {name}: expected one of {", ".join(known)}')
    return folder / f'{name}.py'


def method_name(options: Mapping) -> str:
    """The name that a method's options choose it by; that of a class is the one registered."""
    kind = options.get('type')
    if isinstance(kind, type):
        from .adaptation import ADAPTATION_METHODS

        names = [name for name, cls in ADAPTATION_METHODS.module_dict.items() if cls is kind]
        return names[0] if names else kind.__name__
    return type_name(kind)


def with_method(cfg: Config, name: str, configs: Path, options: Optional[Mapping] = None) -> None:
    """Puts the method ``configs/_base_/adaptation/<name>.py`` into a config.

    Settings that the config makes for the same method stay. Settings of another method do not.

    Args:
        cfg: Changed in place.
        name: Of the method.
        configs: The folder ``configs``.
        options: Those of the command line, as ``key=value``: what they say of ``adaptation`` is
            said of this method.

    Raises:
        ValueError: There is no such file.
    """
    path = method_file(name, configs)
    if (cfg.get('method') or method_name(cfg.get('adaptation') or {})) == name:
        return
    found = read_config(path).get('adaptation')
    if not isinstance(found, Mapping) or not found.get('type'):
        raise ValueError(f'--method {name}: expected `adaptation = dict(type=...)` in the file')
    cfg.adaptation = found
    # Two presets can be of one type; the results tell them apart.
    cfg.method = path.stem if name.endswith('.py') else name
    own = {k: v for k, v in (options or {}).items() if k.startswith('adaptation.')}
    if own:
        cfg.merge_from_dict(own)


def _from_outside_in(adaptation: Optional[dict]) -> Iterator[dict]:
    """A method's options, then those of the one that it is around, and so on."""
    while isinstance(adaptation, Mapping):
        yield adaptation
        adaptation = adaptation.get('method')


def with_meta_networks(adaptation: Optional[dict]) -> Optional[dict]:
    """The options with meta networks: a method's own, or those of one that it is around."""
    for options in _from_outside_in(adaptation):
        if 'meta_networks' in options:
            return options
    return None


def with_adapters(adaptation: dict, path: str) -> None:
    """Puts a file of meta networks into a method's options, or those of one that it is around.

    Args:
        adaptation: Changed in place.
        path: The file.

    Raises:
        ValueError: The method has no meta networks.
    """
    options = with_meta_networks(adaptation)
    if options is None:
        raise ValueError(
            'a file of adapters goes with a method that has meta networks, such as ecotta, not '
            f'{type_name(adaptation)}'
        )
    options['adapters'] = str(path)


def with_calibration(cfg: Config, folder: str) -> None:
    """Has a run's method calibrated on the pictures of a folder, see ``EcoTTAHook``.

    Raises:
        ValueError: There is no such folder.
    """
    check_pictures(folder)
    cfg.custom_hooks = [
        dict(hook, calibrate=folder) if is_a(hook, 'EcoTTAHook') else hook
        for hook in cfg.custom_hooks
    ]


def with_memory_budget(adaptation: dict, budget: Union[str, int, float]) -> None:
    """Puts a memory budget into a method's options, or those of one that it is around.

    Args:
        adaptation: Changed in place.
        budget: See ``ecotta_seg.memory.plan.parse_budget``.

    Raises:
        ValueError: It is no budget.
    """
    from .memory.plan import parse_budget

    parse_budget(budget, 1)
    options = adaptation
    while isinstance(options.get('method'), dict):
        options = options['method']
    options['memory_budget'] = budget


def merged_estimate(own: Any, asked: Any) -> Any:
    """The options of a method's estimate, see ``LabelFreeEstimate``.

    Args:
        own: Those of the method's config: a dictionary, True, False or None.
        asked: Those that are asked for any method; they go before the method's own.
    """
    if isinstance(own, Mapping) and isinstance(asked, Mapping):
        return {**own, **asked}
    return own if asked is True and isinstance(own, Mapping) else asked


def with_seed(cfg: Config, seed: int) -> None:
    """Puts the seed of all random generators into a config, those that methods own included."""
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    for options in _from_outside_in(cfg.get('adaptation')):
        # CoTTA's restoring has a generator of its own, which is saved with the stream.
        if method_name(options) == 'cotta':
            options['seed'] = seed


def with_resume(cfg: Config) -> None:
    """Makes the run of a config go on from the newest state in its work dir."""
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
    """The config of the data set that a test reads, below all that is around it; maybe empty."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), Mapping):
        dataset = dataset['dataset']
    return dataset


def unlabelled_steps(pipeline: Sequence[Mapping]) -> list[dict]:
    """The steps of a pipeline without those that load labels or make weather."""
    kept = []
    for step in pipeline:
        if type_name(step) not in ('LoadAnnotations', 'AdverseWeather'):
            kept.append(dict(step))
    return kept
