"""A missing, broken or old library is one sentence with the command that mends it."""

import importlib
import os

import pytest

from ecotta_seg.config.config import read_config
from ecotta_seg.startup import stack


def _without(monkeypatch, name, error):
    original = importlib.import_module

    def import_module(module, *arguments):
        if module == name:
            raise error
        return original(module, *arguments)

    monkeypatch.setattr(importlib, 'import_module', import_module)


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmcv', 'mmseg'])
def test_a_missing_library_is_named_with_its_remedy(monkeypatch, name):
    _without(monkeypatch, name, ModuleNotFoundError(f"No module named '{name}'"))
    with pytest.raises(stack.StackError, match=rf'needs {name} >= .*pip install') as caught:
        stack.check_stack()
    assert '\n' not in str(caught.value)


def test_a_library_that_refuses_another_is_named(monkeypatch):
    _without(monkeypatch, 'mmseg', AssertionError('MMCV==2.2.0 is used but incompatible.'))
    with pytest.raises(stack.StackError, match=r'MMCV==2\.2\.0.*pip install'):
        stack.check_stack()


def test_an_old_library_is_named_with_both_versions(monkeypatch):
    import mmseg

    monkeypatch.setattr(mmseg, '__version__', '0.11.0')
    with pytest.raises(stack.StackError, match=r'needs mmseg >= 1\.2, but 0\.11\.0 is installed'):
        stack.check_stack()


def test_a_torch_that_numpy_is_too_new_for_is_named(monkeypatch):
    import torch

    def numpy(tensor):
        raise RuntimeError('Numpy is not available')

    monkeypatch.setattr(torch.Tensor, 'numpy', numpy)
    with pytest.raises(stack.StackError, match=r"Numpy is not available.*pip install 'numpy<2'"):
        stack.check_stack()


@pytest.mark.parametrize(('text', 'numbers'), [
    ('2.13.0+cpu', (2, 13, 0)), ('2.0.0rc4', (2, 0, 0)), ('1.2.2', (1, 2, 2)),
])  # fmt: skip
def test_versions_are_compared_as_numbers(text, numbers):
    assert stack._version_tuple(text) == numbers
    assert stack._version_tuple('2.9') < stack._version_tuple('2.13')


def test_a_config_inherits_from_the_zoo(tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = ['mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024.py']\n"
    )
    assert read_config(tmp_path / 'mine.py').model.backbone.depth == 50


def test_safe_loading_is_forced(monkeypatch):
    monkeypatch.setattr(os, 'environ', {'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '1'})
    stack.force_safe_loading()
    assert os.environ == {'TORCH_FORCE_WEIGHTS_ONLY_LOAD': '1'}
