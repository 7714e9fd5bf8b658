"""Which runs there are, and how far each is."""

import json
from pathlib import Path

import pytest

from ecotta_seg.benchmark import MethodSpec, ModelSpec, make_runs, run_folder, run_status
from ecotta_seg.benchmark.runs import RUN_FILE, run_settings, settings_digest
from ecotta_seg.names.old_names import OldNameWarning
from tests.benchmark.conftest import ROOT

KNOWN = ['tent', 'source', 'cotta']


@pytest.fixture
def model(tmp_path):
    config, checkpoint = tmp_path / 'model.py', tmp_path / 'model.pth'
    config.write_text("model = dict(type='EncoderDecoder')\n")
    checkpoint.write_bytes(b'weights')
    return ModelSpec('r18', str(config), str(checkpoint))


def test_methods_carry_options():
    spec = MethodSpec.parse('tent:optimizer.lr=1e-3,optimizer.type=SGD', KNOWN)
    assert spec == (
        'tent:optimizer.lr=1e-3,optimizer.type=SGD',
        'tent',
        ('optimizer.lr=1e-3', 'optimizer.type=SGD'),
        None,
    )
    assert MethodSpec.parse('tent', KNOWN) == ('tent', 'tent', (), None)
    assert MethodSpec.parse('a/mine.py:x=1', KNOWN) == ('mine.py:x=1', 'a/mine.py', ('x=1',), None)
    assert MethodSpec.parse('tent:adapters=a/b.pth,x=1', KNOWN) == (
        'tent:adapters=b.pth,x=1',
        'tent',
        ('x=1',),
        'a/b.pth',
    )
    with pytest.raises(ValueError, match="unknown method 'tant'.*cotta, source, tent"):
        MethodSpec.parse('tant:lr=1', KNOWN)
    with pytest.raises(ValueError, match="key=value after tent:, got 'lr'"):
        MethodSpec.parse('tent:lr', KNOWN)
    with pytest.raises(ValueError, match="key=value after tent:, got ''"):
        MethodSpec.parse('tent:', KNOWN)


def test_runs_are_all_combinations_in_folders_of_their_own(model, tmp_path):
    methods = [MethodSpec.parse(t, KNOWN) for t in ('source', 'tent', 'tent:optimizer.lr=1e-3')]
    runs = make_runs([model], methods, ['continual', 'ramp'], [0, 3], rounds=2)
    assert len(runs) == len(set(runs)) == 12
    folders = {run_folder(run, tmp_path / 'b') for run in runs}
    assert len(folders) == 12
    assert tmp_path / 'b/cells/r18/ramp/tent_optimizer.lr=1e-3/seed3' in folders
    more = make_runs([model], methods, ['continual', 'ramp'], [0, 3], views=4)
    assert not folders & {run_folder(run, tmp_path / 'b') for run in more}


def test_mistakes_are_one_sentence(model):
    tent = MethodSpec.parse('tent', KNOWN)
    with pytest.raises(ValueError, match='each method once'):
        make_runs([model], [tent, tent])
    with pytest.raises(ValueError, match="unknown stream 'ramps'"):
        make_runs([model], [tent], ['ramps'])
    with pytest.raises(ValueError, match='none.pth does not exist'):
        make_runs([model._replace(checkpoint='none.pth')], [tent])
    with pytest.raises(ValueError, match='r18 and source, which are not run'):
        make_runs([model], [tent], adapters={('r18', 'source'): model.checkpoint})
    alike = [MethodSpec.parse(text, KNOWN) for text in ('tent:a=b/c', 'tent:a=b:c')]
    with pytest.raises(ValueError, match='a=b/c, continual, seed 0 and .* would share a folder'):
        make_runs([model], alike)
    with pytest.raises(ValueError, match=r"a name for a model, got '\.\.'"):
        make_runs([model._replace(name='..')], [tent])


def test_adapters_of_an_option_are_a_file_as_any_other(model, tmp_path):
    file = tmp_path / 'adapters.pth'
    method = MethodSpec.parse(f'tent:adapters={file}', KNOWN)
    with pytest.raises(ValueError, match='adapters.pth does not exist'):
        make_runs([model], [method])
    file.write_bytes(b'meta networks')
    (run,) = make_runs([model], [method])
    assert run.adapters == str(file)
    first = run_settings(run, ROOT / 'configs')
    moved = file.rename(tmp_path / 'moved.pth')
    (same,) = make_runs([model], [method._replace(adapters=str(moved))])
    assert run_settings(same, ROOT / 'configs') == first
    moved.write_bytes(b'others')
    assert run_settings(same, ROOT / 'configs') != first
    with pytest.raises(ValueError, match='given twice'):
        make_runs([model], [method], adapters={('r18', method.label): str(file)})


def test_status_follows_what_lies_there(model, tmp_path, document):
    (run,) = make_runs([model], [MethodSpec.parse('tent', KNOWN)])
    folder = run_folder(run, tmp_path)
    settings = run_settings(run, ROOT / 'configs')
    assert run_status(folder, settings) == 'new'
    folder.mkdir(parents=True)
    (folder / 'results.json').write_text(json.dumps(document(30.0)))
    assert run_status(folder, settings) == 'other', 'nobody knows whose results these are'
    (folder / RUN_FILE).write_text(json.dumps(settings))
    assert run_status(folder, settings) == 'done'
    whole = (folder / 'results.json').read_text()
    (folder / 'results.json').write_text(whole[:100])
    assert run_status(folder, settings) == 'new'
    (folder / 'state').mkdir()
    (folder / 'state' / 'stream_state_rank0_00000020.pth').touch()
    assert run_status(folder, settings) == 'started'


def test_settings_follow_what_is_in_the_files(model, tmp_path):
    (run,) = make_runs([model], [MethodSpec.parse('tent', KNOWN)])

    def settings(run):
        return run_settings(run, ROOT / 'configs')

    first = settings(run)
    assert first == settings(run) == json.loads(json.dumps(first))
    moved = tmp_path / 'elsewhere.pth'
    moved.write_bytes(b'weights')
    same = ModelSpec('r18', model.config, str(moved))
    assert settings(make_runs([same], [run.method])[0]) == first
    for changes in (
        dict(seeds=[1]),
        dict(streams=['ramp']),
        dict(rounds=3),
        dict(options=('a=1',)),
    ):
        assert settings(make_runs([model], [run.method], **changes)[0]) != first
    moved.write_bytes(b'other')
    assert settings(make_runs([same], [run.method])[0]) != first


def test_results_of_a_config_with_old_keys_stay_valid(model):
    (run,) = make_runs([model], [MethodSpec.parse('tent', KNOWN)])
    text = "model = dict(type='EncoderDecoder')\n{} = dict(batch_size=1, dataset=dict(type='X'))\n"
    Path(model.config).write_text(text.format('forgetting_dataloader'))
    found = run_settings(run, ROOT / 'configs')
    # The digest that version 0.1.0 wrote when the key was called clear_dataloader.
    config = dict(
        model=dict(type='EncoderDecoder'),
        clear_dataloader=dict(batch_size=1, dataset=dict(type='X')),
    )
    assert found['model']['config'] == settings_digest(config)
    Path(model.config).write_text(text.format('clear_dataloader'))
    with pytest.warns(OldNameWarning):
        assert run_settings(run, ROOT / 'configs') == found


def test_settings_are_of_what_the_result_depends_on(model):
    def settings(text):
        Path(model.config).write_text(text)
        (run,) = make_runs([model], [MethodSpec.parse('tent', ['tent'])])
        return run_settings(run, ROOT / 'configs')

    text = (
        "model = dict(type='EncoderDecoder')\n"
        "test_dataloader = dict(dataset=dict(dataset=dict(data_root='/a', severity=5)))\n"
        'train_cfg = dict(max_iters=10)\n'
    )
    first = settings(text)
    assert settings(text.replace('/a', '/b')) == first
    assert settings(text.replace('10', '20')) == first
    assert settings(text.replace('=5', '=4')) != first
