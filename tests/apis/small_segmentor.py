"""A segmentor that builds and steps in a fraction of a second."""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from ecotta_seg.apis import init_adaptive_segmentor

SCRIPT = Path(__file__).resolve().parents[1] / 'kill_and_resume.py'
_spec = importlib.util.spec_from_file_location('kill_and_resume', SCRIPT)
harness = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(harness)
same = harness.same


def write_config(folder, method, more=''):
    """The config of a tiny model with a method; ``more`` comes before the data set is put
    together."""
    path = harness.write_config(folder / f'{method}.py', method, folder)
    text = path.read_text()
    path.write_text(text.replace('inner = dict(', f'{more}inner = dict(', 1))
    return path


def frames(count, seed=0, shape=(64, 96)):
    """Pictures of coloured blocks, (H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        cells = np.ones((shape[0] // 4, shape[1] // 6, 1))
        image = np.kron(generator.integers(30, 220, (4, 6, 3)), cells)
        image = image + generator.integers(-9, 10, image.shape)
        yield image.clip(0, 255).astype(np.uint8)


def checkpoint_of(config, seed=0):
    """A file with random weights of a config's model, beside the config."""
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    path = config.with_name(f'source_{seed}.pth')
    if not path.exists():
        torch.manual_seed(seed)
        with DefaultScope.overwrite_default_scope('mmseg'):
            model = MODELS.build(Config.fromfile(str(config)).model)
        torch.save({'state_dict': model.state_dict()}, path)
    return path


def built(config, source=0, seed=0, **options):
    """A segmentor with the weights of ``checkpoint_of(config, source)``; what else is random, meta
    networks, is of ``seed``."""
    checkpoint = checkpoint_of(config, source)
    torch.manual_seed(seed)
    return init_adaptive_segmentor(config, checkpoint, **options)
