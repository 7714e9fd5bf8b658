"""The runs of a benchmark, their folders, and their status."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from ..config.config import RESULT_KEYS, read_config
from ..config.method import method_file
from ..config.old_keys import OLD_KEYS
from ..config.stream import STREAMS
from ..evaluation.results import load_results
from ..files.file_digest import file_digest
from ..version import __version__

RUN_FILE = 'cell.json'


class ModelSpec(NamedTuple):
    """A source model.

    Attributes:
        name: Name in the report.
        config: Path of the config that tests the model on a stream.
        checkpoint: Path of the weights.
    """

    name: str
    config: str
    checkpoint: str


class MethodSpec(NamedTuple):
    """An adaptation method and the changes to its config.

    Attributes:
        label: Name in the report, as on the command line.
        name: Name of a file in ``configs/_base_/adaptation``, without ``.py``, or the path of a
            file.
        options: ``key=value`` texts for keys below ``adaptation``.
        adapters: File of warmed-up meta networks if an option names one, else None.
    """

    label: str
    name: str
    options: tuple[str, ...] = ()
    adapters: Optional[str] = None

    @classmethod
    def parse(cls, text: str, known: Sequence[str]) -> 'MethodSpec':
        """Parses ``'tent'`` or ``'tent:optimizer.lr=1e-3,optimizer.type=SGD'``.

        A name that ends with ``.py`` is the path of a user's preset, see ``method_file``. The label
        contains only the file name of this preset and of ``adapters=FILE``, without the folder.

        Raises:
            ValueError: The method is unknown, or an option is not ``key=value``.
        """
        name, colon, rest = text.partition(':')
        if name not in known and not name.endswith('.py'):
            raise ValueError(f'unknown method {name!r}: expected one of {", ".join(sorted(known))}')
        options, shown, adapters = [], [], None
        for option in rest.split(',') if colon else ():
            if not re.fullmatch(r'[\w.]+=.+', option):
                raise ValueError(f'expected key=value after {name}:, got {option!r}')
            key, _, value = option.partition('=')
            if key == 'adapters':
                adapters = value
                shown.append(f'adapters={Path(value).name}')
            else:
                options.append(option)
                shown.append(option)
        return cls(Path(name).name + colon + ','.join(shown), name, tuple(options), adapters)


@dataclass(frozen=True)
class BenchmarkRun:
    """One run of a benchmark.

    Attributes:
        model, method: The model and the method of the run.
        stream: A name in ``STREAMS``.
        seed: Seed of the weather, the order of a mixed stream and all random generators.
        rounds: Number of rounds; None for the number in the config.
        views: Number of views; None for the method's default.
        adapters: File of warmed-up meta networks, or None.
        options: ``key=value`` texts for the whole config.
        device: ``'cpu'``, ``'cuda'``, or None for the available one.
    """

    model: ModelSpec
    method: MethodSpec
    stream: str = 'continual'
    seed: int = 0
    rounds: Optional[int] = None
    views: Optional[int] = None
    adapters: Optional[str] = None
    options: tuple[str, ...] = ()
    device: Optional[str] = None

    def __str__(self) -> str:
        views = '' if self.views is None else f', {self.views} views'
        model, method = self.model.name, self.method.label
        return f'{model}, {method}, {self.stream}, seed {self.seed}{views}'


def make_runs(
    models: Sequence[ModelSpec],
    methods: Sequence[MethodSpec],
    streams: Sequence[str] = ('continual',),
    seeds: Sequence[int] = (0,),
    adapters: Optional[Mapping[tuple[str, str], str]] = None,
    **common: Any,
) -> list[BenchmarkRun]:
    """Makes the runs for all combinations, sorted by model.

    Args:
        models, methods, streams, seeds: The values to combine.
        adapters: Files of warmed-up meta networks; the keys are (model name, method label).
        **common: More fields of ``BenchmarkRun``.

    Raises:
        ValueError: A name occurs twice or cannot name a folder, two runs would share a folder, a
            stream is unknown, a file is missing, adapters are given twice, or adapters are given
            for a model and method that are not run.
    """
    for what, names in (
        ('model', [model.name for model in models]),
        ('method', [method.label for method in methods]),
        ('stream', list(streams)),
        ('seed', list(seeds)),
    ):
        if not names or len(set(names)) != len(names):
            raise ValueError(f'expected each {what} once, and at least one, got {names}')
    for stream in streams:
        if stream not in STREAMS:
            raise ValueError(f'unknown stream {stream!r}: expected one of {", ".join(STREAMS)}')
    files = _adapter_files(models, methods, adapters or {})
    for path in [p for model in models for p in model[1:]] + list(files.values()):
        if not Path(path).is_file():
            raise ValueError(f'expected a file, but {path} does not exist')
    runs = [
        BenchmarkRun(
            model, method, stream, seed, adapters=files.get((model.name, method.label)), **common
        )
        for model in models
        for stream in streams
        for method in methods
        for seed in seeds
    ]
    _check_folders(runs)
    return runs


def _adapter_files(
    models: Sequence[ModelSpec],
    methods: Sequence[MethodSpec],
    given: Mapping[tuple[str, str], str],
) -> dict[tuple[str, str], str]:
    files = {(m.name, s.label): s.adapters for m in models for s in methods}
    for pair, path in given.items():
        if pair not in files:
            raise ValueError(f'adapters are given for {" and ".join(pair)}, which are not run')
        if files[pair] is not None:
            raise ValueError(f'adapters of {" and ".join(pair)} are given twice')
        files[pair] = path
    return {pair: path for pair, path in files.items() if path is not None}


def _check_folders(runs: Sequence[BenchmarkRun]) -> None:
    whose: dict[Path, BenchmarkRun] = {}
    for run in runs:
        if run.model.name.strip('. ') == '':
            raise ValueError(f'expected a name for a model, got {run.model.name!r}')
        other = whose.setdefault(run_folder(run, ''), run)
        if other is not run:
            raise ValueError(f'{other} and {run} would share a folder: rename one')


def run_folder(run: BenchmarkRun, work_dir: Union[str, Path]) -> Path:
    """``WORK_DIR/cells/MODEL/STREAM/METHOD[-views]/seedN``, with names made safe for files."""
    views = '' if run.views is None else f'-{run.views}views'
    names = (run.model.name, run.stream, f'{run.method.label}{views}', f'seed{run.seed}')
    return Path(work_dir, 'cells', *(re.sub(r'[^\w.=+-]', '_', name) for name in names))


def run_settings(run: BenchmarkRun, configs: Union[str, Path]) -> dict:
    """All settings that determine a run's result, except the code, as values of JSON.

    Args:
        run: The run.
        configs: The folder ``configs`` with the methods' files.
    """
    method = method_file(run.method.name, Path(configs))
    settings = json.loads(json.dumps(asdict(run)))
    # The contents of the files matter, not their paths.
    settings['model'] = {
        'name': run.model.name,
        'config': _config_digest(run.model.config),
        'checkpoint': file_digest(run.model.checkpoint),
    }
    settings['method'] = {
        'label': run.method.label,
        'name': run.method.name,
        'options': list(run.method.options),
        'config': _config_digest(method),
    }
    if run.adapters is not None:
        settings['adapters'] = file_digest(run.adapters)
    settings['version'] = __version__
    return settings


def _config_digest(path: Union[str, Path]) -> str:
    config = read_config(path).to_dict()
    config = _without_places({key: config[key] for key in RESULT_KEYS if key in config})
    # Digests use the old keys, so that results of earlier versions stay valid.
    old = {new: old for old, new in OLD_KEYS.items()}
    return settings_digest({old.get(key, key): value for key, value in config.items()})


def settings_digest(settings: Mapping) -> str:
    """A digest of settings: 16 hexadecimal digits."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_places(value: Any) -> Any:
    """The value without ``data_root``, because the data's folder differs between machines."""
    if isinstance(value, dict):
        return {k: _without_places(item) for k, item in value.items() if k != 'data_root'}
    return [_without_places(item) for item in value] if isinstance(value, (list, tuple)) else value


def run_status(folder: Path, settings: Mapping) -> str:
    """The status of a run.

    Returns:
        ``'done'``: the results are complete and belong to these settings. ``'started'``: the run
        was interrupted and has a state to resume from. ``'other'``: the folder holds files of other
        settings. ``'new'``: none of these.
    """
    try:
        saved = json.loads((folder / RUN_FILE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return 'other' if folder.is_dir() and any(folder.iterdir()) else 'new'
    if saved != settings:
        return 'other'
    try:
        load_results(folder)
        return 'done'
    except (OSError, ValueError):
        pass
    return 'started' if any((folder / 'state').glob('stream_state_*.pth')) else 'new'


def holds_others(run: BenchmarkRun, work_dir: Union[str, Path], configs: Union[str, Path]) -> bool:
    """Whether a run's folder holds files of a run with other or unknown settings.

    Args:
        run: The run. If its settings cannot be read, the result is True; the run then
            fails and states the reason.
        work_dir: The work dir of the benchmark.
        configs: The folder ``configs``.
    """
    try:
        return run_status(run_folder(run, work_dir), run_settings(run, configs)) == 'other'
    except (OSError, ValueError):
        return True
