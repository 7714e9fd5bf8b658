"""Old names of keys in configs and on the command line."""

import argparse

import pytest

from ecotta_seg.config.config import read_config
from ecotta_seg.config.options import Options
from ecotta_seg.names.old_names import OldNameWarning

BASE = 'forgetting_dataloader = dict(batch_size=1, dataset=dict(type="A", root="a"))\n'


def _read(folder, text, base=BASE):
    (folder / 'base.py').write_text(base)
    (folder / 'config.py').write_text(f"_base_ = ['./base.py']\n{text}\n")
    return read_config(folder / 'config.py')


@pytest.mark.parametrize(('value', 'expected'), [
    ('None', None),
    ('dict(dataset=dict(root="b"))', dict(batch_size=1, dataset=dict(type='A', root='b'))),
    ('dict(_delete_=True, batch_size=2)', dict(batch_size=2)),
])  # fmt: skip
def test_an_old_key_changes_the_base_as_the_current_key_does(tmp_path, value, expected):
    current = _read(tmp_path, f'forgetting_dataloader = {value}')
    assert current.forgetting_dataloader == expected
    with pytest.warns(OldNameWarning, match='config.py: `clear_dataloader` is now called'):
        old = _read(tmp_path, f'clear_dataloader = {value}')
    assert old.to_dict() == current.to_dict()


def test_an_old_key_without_a_current_one(tmp_path):
    with pytest.warns(OldNameWarning):
        cfg = _read(tmp_path, '', BASE.replace('forgetting', 'clear'))
    assert cfg.forgetting_dataloader.dataset.root == 'a' and 'clear_dataloader' not in cfg
    with pytest.warns(OldNameWarning):
        none = _read(tmp_path, 'clear_dataloader = dict(a=1)', 'forgetting_dataloader = None\n')
    assert none.forgetting_dataloader == dict(a=1)


def test_the_current_key_warns_of_nothing(tmp_path, recwarn):
    _read(tmp_path, 'forgetting_dataloader = None')
    assert not [w for w in recwarn if issubclass(w.category, OldNameWarning)]


def test_an_old_key_on_the_command_line(recwarn):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=Options)
    with pytest.warns(OldNameWarning, match='--cfg-options: `clear_dataloader` is now'):
        found = parser.parse_args(['--cfg-options', 'clear_dataloader.num_workers=1', 'a.b=2'])
    assert found.cfg_options == {'forgetting_dataloader.num_workers': 1, 'a.b': 2}
    with pytest.warns(OldNameWarning):
        found = parser.parse_args(['--cfg-options', 'clear_dataloader=None'])
    assert found.cfg_options == {'forgetting_dataloader': None}
