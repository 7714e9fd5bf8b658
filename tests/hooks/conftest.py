"""A real mmengine Runner around a toy model and a toy stream, for tests of hooks."""

import itertools
import logging
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import Dataset

_number = itertools.count()


class Position(NamedTuple):
    round: int
    condition: str
    frame: int


class ToyStream(Dataset):
    """Two rounds of fog and night; random images, labels of four classes."""

    metainfo = dict(
        classes=('road', 'car', 'sky', 'bus'),
        palette=[[128, 64, 128], [0, 0, 142], [70, 130, 180], [0, 60, 100]],
    )
    size = (24, 32)

    def __init__(self, rounds=2, conditions=('fog', 'night'), frames=4, labels=True, order=True):
        self.rounds, self.conditions, self.frames = rounds, conditions, frames
        self.labels = labels
        self.indices = None
        if order:
            self.position = self._position

    def _position(self, index):
        number, place = divmod(index, len(self.conditions) * self.frames)
        condition, frame = divmod(place, self.frames)
        return Position(number + 1, self.conditions[condition], frame)

    def __len__(self):
        return self.rounds * len(self.conditions) * self.frames

    def __getitem__(self, index):
        position = self._position(index)
        random = torch.Generator().manual_seed(position.frame)
        sample = SegDataSample(
            metainfo=dict(
                img_path=f'data/seq1_f{position.frame:02d}_leftImg8bit.png',
                sequence='seq1',
                condition=position.condition,
                round=position.round,
                stream_index=index,
                ori_shape=self.size,
            )
        )
        label = torch.randint(0, 3, (1, *self.size), generator=random)
        if self.labels:
            sample.gt_sem_seg = PixelData(data=label)
        image = torch.stack([label[0] * 100, torch.zeros(self.size), torch.zeros(self.size)])
        return dict(inputs=image.byte(), data_samples=sample)


@dataclass
class ToyStep:
    loss: float = nan
    entropy: float = nan
    regularisation: float = nan
    confident_fraction: float = nan
    updated: bool = False


class ToyModel(BaseModel):
    """Reads the class out of the first channel and errs on ever fewer of the upper rows."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.steps = 0
        self.last_step = ToyStep()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.read(inputs, data_samples, wrong_rows=12 - self.steps // 2)

    def test_step(self, data):
        self.steps += 1
        self.last_step = ToyStep(1.0 / self.steps, 0.5, nan, 0.9, True)
        return super().test_step(data)

    @staticmethod
    def read(inputs, data_samples, wrong_rows):
        outputs = []
        for image, sample in zip(inputs, data_samples):
            mask = (image[:1].long() + 50) // 100
            mask[:, :wrong_rows] = 1
            sample = sample.clone()
            sample.pred_sem_seg = PixelData(data=mask)
            outputs.append(sample)
        return outputs


@pytest.fixture
def toy_model():
    return ToyModel


@pytest.fixture
def stream_runner(tmp_path):
    """A function that builds a Runner: hooks, and keywords of the toy stream."""

    def build(hooks, batch_size=1, metrics=None, model=None, **stream):
        torch.manual_seed(0)
        return Runner(
            model=model or ToyModel(),
            work_dir=str(tmp_path / 'work'),
            test_dataloader=dict(
                batch_size=batch_size,
                num_workers=0,
                dataset=ToyStream(**stream),
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='pseudo_collate'),
            ),
            test_cfg=dict(),
            test_evaluator=[dict(type='PerConditionIoU')] if metrics is None else metrics,
            custom_hooks=hooks,
            default_scope='mmseg',
            # mmengine keeps one message hub for each name in a process.
            experiment_name=f'toy{next(_number)}',
            log_level='ERROR',
        )

    return build


@pytest.fixture
def warnings_of():
    """A function that runs a test and gives the warnings in the log."""

    def run(runner):
        found = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: found.append(record.getMessage())
        runner.logger.addHandler(handler)
        runner.test()
        return found

    return run
