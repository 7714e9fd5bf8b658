"""tools/choose.py end to end, and its mistakes."""

import json

import pytest

from ecotta_seg.datasets.scenes.scene_writer import write_cityscapes_layout
from tests.tools.conftest import CONFIG, ROOT, error_of, run_tool

pytest.importorskip('optuna', reason='needs optuna')


@pytest.fixture(scope='module')
def config(project):
    """As the project's, with eight clear frames."""
    data = project.folder / 'more_data'
    list(write_cityscapes_layout(data, {'train': 2, 'val': 2, 'test': 8}, (96, 48)))
    path = project.folder / 'more.py'
    path.write_text(CONFIG.format(root=ROOT, data=data))
    return path


@pytest.mark.slow
def test_a_choice_and_its_preset(project, config, tmp_path):
    arguments = [
        'choose', config, project.checkpoint, '--work-dir', tmp_path / 'choice', '--methods',
        'batch_norm_statistics', 'tent', '--trials', 2, '--rounds', 1, '--conditions', 'fog',
        '--max-clear-loss', 100, '--device', 'cpu',
    ]  # fmt: skip
    run = run_tool(*arguments)
    assert run.returncode == 0, run.stderr
    document = json.loads((tmp_path / 'choice' / 'choice.json').read_text())
    assert [entry['name'] for entry in document['search']] == ['batch_norm_statistics', 'tent']
    assert document['setting']['frames'] == [4, 4] and len(document['finalists']) <= 2
    results = {
        path.parts[-3].partition('_optimizer')[0]: json.loads(path.read_text())
        for path in (tmp_path / 'choice' / 'cells' / 'confirm').rglob('results.json')
    }
    for finalist in document['finalists']:
        found = results[finalist['candidate']['name']]
        gain = found['mean_mIoU'] - found['source']['mIoU']
        assert finalist['gain'] == pytest.approx(gain)
        assert finalist['low'] <= finalist['gain'] <= finalist['high']
        lost = found['clear']['source'] - found['clear']['after']
        assert finalist['clear_loss'] == pytest.approx(lost)
    for entry in document['search']:
        (path,) = (tmp_path / 'choice/cells/search').rglob(f'{entry["name"]}*/seed0/results.json')
        found = json.loads(path.read_text())
        assert entry['score'] == pytest.approx(found['mean_mIoU'] - found['source']['mIoU'])
    chosen = document['chosen']
    assert ('Adapting does not pay' in run.stdout) == (chosen is None)
    again = run_tool(*arguments)
    assert again.returncode == 0 and again.stdout.count('skipped') == 2 + len(results)
    assert json.loads((tmp_path / 'choice' / 'choice.json').read_text()) == document
    preset = tmp_path / 'choice' / 'chosen.py'
    run = run_tool(
        'test_tta', config, project.checkpoint, '--method', preset, '--rounds', 1,
        '--conditions', 'fog', '--work-dir', tmp_path / 'run',
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert json.loads((tmp_path / 'run' / 'results.json').read_text())['method'] == 'chosen'


@pytest.mark.parametrize(('options', 'text'), [
    (('--methods', 'tant'), '--method tant: expected one of'),
    (('--conditions', 'hail'), '--conditions hail: expected some of fog, night, rain, snow'),
    (('--frames', 4), 'expected a whole number from 8'),
    (('--cfg-options', 'forgetting_dataloader=None'), 'no `forgetting_dataloader.dataset`'),
    (('--address', 'auto'), '--address needs --engine ray'),
])  # fmt: skip
def test_mistakes_are_one_sentence(project, config, tmp_path, options, text):
    run = run_tool('choose', config, project.checkpoint, '--work-dir', tmp_path / 'w', *options)
    assert text in error_of(run)
    assert not (tmp_path / 'w').exists() or not list((tmp_path / 'w').iterdir())


@pytest.mark.slow
def test_too_few_frames_are_told(project, tmp_path):
    run = run_tool('choose', project.config, project.checkpoint, '--work-dir', tmp_path)
    assert 'expected at least 8 labelled clear frames' in error_of(run)
