"""Source checkpoints: whole, of this model, and without code."""

import os

import pytest
import torch
from torch import nn

from ecotta_seg.files.checkpoint import load_source, read_checkpoint


def _model():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def _saved(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize('wrap', [
    lambda s: {'state_dict': s, 'meta': {'epoch': 1}},
    lambda s: s,
    lambda s: {'state_dict': {f'module.{k}': v for k, v in s.items()}},
])  # fmt: skip
def test_weights_are_loaded_from_every_usual_form(tmp_path, wrap):
    source, target = _model(), _model()
    load_source(target, _saved(tmp_path / 'c.pth', wrap(source.state_dict())))
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_a_checkpoint_of_another_model_changes_nothing(tmp_path):
    other = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(4), nn.Conv2d(1, 1, 1))
    model = _model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match=r'has unknown 2\.weight.*differs: 0\.weight is \(5,'):
        load_source(model, _saved(tmp_path / 'c.pth', other.state_dict()))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_missing_auxiliary_head_does_not_matter(tmp_path):
    model = nn.ModuleDict({'body': nn.Conv2d(1, 1, 1), 'auxiliary_head': nn.Conv2d(1, 1, 1)})
    state = {k: v for k, v in model.state_dict().items() if k.startswith('body')}
    load_source(model, _saved(tmp_path / 'c.pth', state))


@pytest.mark.parametrize('cut', [0, 1, 10, 500])
def test_truncated_files_are_one_sentence(tmp_path, cut):
    path = _saved(tmp_path / 'c.pth', _model().state_dict())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match='damaged or not a checkpoint') as caught:
        read_checkpoint(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [
    [1, 2], {'epoch': 3}, {'state_dict': 4}, {'state_dict': {'0.weight': 4}},
    {'state_dict': {0: torch.zeros(1)}},
])  # fmt: skip
def test_files_without_weights_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match='no model weights'):
        read_checkpoint(_saved(tmp_path / 'c.pth', content))


class Hostile:
    """Runs code when it is unpickled without restriction."""

    def __reduce__(self):
        return eval, ("__import__('os').environ.__setitem__('ECOTTA_CODE_RAN', '1')",)


def test_code_runs_only_where_it_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv('ECOTTA_CODE_RAN', '0')
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    path = _saved(tmp_path / 'c.pth', {'state_dict': _model().state_dict(), 'x': Hostile()})
    with pytest.raises(ValueError, match='--trust-checkpoint'):
        read_checkpoint(path)
    assert os.environ['ECOTTA_CODE_RAN'] == '0'
    read_checkpoint(path, trust=True)
    assert os.environ['ECOTTA_CODE_RAN'] == '1'
    # Trust is for that one file.
    assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'
