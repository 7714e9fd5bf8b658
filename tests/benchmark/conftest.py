"""Made-up results of runs, and runs of a stand-in for the tool."""

import json
from pathlib import Path

import pytest

from ecotta_seg.benchmark import MethodSpec, ModelSpec, make_runs
from tests.benchmark.stand_in import TOOL

ROOT = Path(__file__).resolve().parents[2]


def _document(mean, rounds=3, source=20.0, peak=200, views=1, seconds=0.5):
    """Fog is a point above the mean and night one below; each round gains half a point."""

    def scores(value):
        return {'mIoU': value, 'aAcc': 50.0, 'frames': 4, 'IoU': {}}

    def conditions(value):
        return {'fog': scores(value + 1), 'night': scores(value - 1)}

    values = [mean + 0.5 * (number - (rounds - 1) / 2) for number in range(rounds)]
    return {
        'schema': 1,
        'method': 'tent',
        'views': views,
        'conditions': ['fog', 'night'],
        'rounds': [
            {'round': number, 'conditions': conditions(value), 'mIoU': value}
            for number, value in enumerate(values, start=1)
        ],
        'mean_mIoU': mean,
        'source': {'conditions': conditions(source), 'mIoU': source},
        'clear': {'source': 50.0, 'before': 49.0, 'after': 48.0},
        'memory': {
            'inference_peak_bytes': 100 * 2**20,
            'adaptation_peak_bytes': peak * 2**20,
            'parameters_bytes': 1,
            'adapters_bytes': 0,
            'gradients_bytes': 1,
            'optimizer_bytes': 1,
        },
        'seconds_per_frame': {'inference': 0.1, 'adaptation': seconds, 'harness_share': 0.05},
        'events': [],
        'code': {'ecotta_seg': '1.2.3 (abc)'},
        'references': {'batch_statistics': {'conditions': {}, 'mIoU': source + 2}},
    }


@pytest.fixture
def document():
    """A function from a mean mIoU to a results document."""
    return _document


@pytest.fixture
def place(tmp_path, document, monkeypatch):
    """A function that makes runs whose tool does what the names say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('SOME_ROOT', '/data/of/this/machine')
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    Path('document.json').write_text(json.dumps(document(30.0)))
    Path('tool.py').write_text(f'DOCUMENT = {str(tmp_path / "document.json")!r}\n{TOOL}')
    Path('model.pth').write_bytes(b'weights')

    def make(*names):
        models = []
        for name in names:
            root = "root = '{{$SOME_ROOT:data}}'"
            Path(f'{name}.py').write_text(f"what = '{name}'\n{root}\n")
            # Relative paths: a worker is in another folder.
            models.append(ModelSpec(name, f'{name}.py', 'model.pth'))
        return make_runs(models, [MethodSpec('tent', 'tent')], device='cpu')

    return make
