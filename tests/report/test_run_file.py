import json

import pytest

from ecotta_seg.report.run_file import read_run_file, write_run_file


def test_it_is_read_as_it_was_written(made_run, tmp_path):
    record = made_run().record()
    path = write_run_file(tmp_path / 'new', record)
    assert read_run_file(tmp_path / 'new') == {'schema': 1, **record}
    assert [p.name for p in path.parent.iterdir()] == ['run.json']
    assert read_run_file(tmp_path) is None


@pytest.mark.parametrize(
    'change',
    [
        {'schema': 2},
        {'seed': 'seven'},
        {'commands': [{'command': ['python']}]},
        {'commands': ['python']},
        {'data': {'frames': None}},
        {'data': {'frames': {'fog': 3}, 'settings': {}}},
        {'classes': None},
    ],
)
def test_what_is_of_another_kind_is_refused(made_run, tmp_path, change):
    path = write_run_file(tmp_path, made_run().record())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=r'run\.json is damaged or of another version'):
        read_run_file(tmp_path)
