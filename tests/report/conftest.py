"""Work dirs as runs leave them, made without a model."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ecotta_seg.evaluation.class_areas import areas_of, confusion_counts, scores
from ecotta_seg.evaluation.confusion import LastRoundConfusion
from ecotta_seg.evaluation.frame_areas import encode_frame
from ecotta_seg.evaluation.results import Results, save_results
from ecotta_seg.hooks.stream_plot_hook import COLUMNS
from ecotta_seg.report.frame_file import write_frame_file
from ecotta_seg.report.run_file import write_run_file

CLASSES = ('road', 'car', 'sky & <b>clouds</b>', 'bus')
CONDITIONS = ('fog', 'night <script>alert(1)</script>')
EVENTS = [
    {'event': 'skip', 'stream_index': 3, 'reason': 'the loss is nan'},
    {'event': 'bad_frame', 'stream_index': 5, 'reason': 'cut off <i>', 'path': '/d/a<b>.png'},
    {'event': 'skip', 'stream_index': 7, 'reason': 'the loss is nan'},
]


class MadeRun:
    """Random predictions on the same labels: a share of the pixels is wrong.

    Args:
        seed: Of the predictions; labels depend on ``data_seed`` alone.
        wrong, source_wrong: Share of wrong pixels of the method and of the source.
        side: Height and width of the labels.
    """

    def __init__(self, seed=0, wrong=0.2, source_wrong=0.5, rounds=2, frames=5, side=16,
                 data_seed=0, root='data'):  # fmt: skip
        self.rounds, self.frames, self.root = rounds, frames, root
        labels = np.random.default_rng(data_seed)
        random = np.random.default_rng(seed)
        self.labels = {
            (c, f): torch.from_numpy(labels.choice([0, 1, 2, 255], (side, side)))
            for c in CONDITIONS for f in range(frames)
        }  # fmt: skip

        def predict(share):
            return {
                key: torch.where(
                    torch.from_numpy(random.random((side, side)) < share),
                    torch.from_numpy(random.integers(0, 4, (side, side))),
                    label.clamp(max=3),
                )
                for key, label in self.labels.items()
            }

        self.source = predict(source_wrong)
        self.method = {number: predict(wrong) for number in range(1, rounds + 1)}

    def counts(self, predictions):
        return {
            key: confusion_counts(found, self.labels[key], len(CLASSES))
            for key, found in predictions.items()
        }

    def part(self, predictions):
        """Scores by condition, as the metric has them."""
        counts, conditions = self.counts(predictions), {}
        for name in CONDITIONS:
            summed = sum(areas_of(found) for (c, _), found in counts.items() if c == name)
            conditions[name] = {**scores(summed, CLASSES), 'frames': self.frames,
                                'frames_without_label': 0}  # fmt: skip
        mean = sum(found['mIoU'] for found in conditions.values()) / len(conditions)
        return {'conditions': conditions, 'mIoU': mean}

    def confusion(self, number, predictions):
        found = LastRoundConfusion()
        for counts in self.counts(predictions).values():
            found.add(number, counts)
        return found.document(CLASSES)

    def document(self, **parts):
        rounds = [{'round': number, **self.part(found)} for number, found in self.method.items()]
        extra = {
            'views': 1,
            'code': {'ecotta_seg': '0.1 (abc)'},
            'confusion': {
                'method': self.confusion(self.rounds, self.method[self.rounds]),
                'source': self.confusion(1, self.source),
            },
        }
        memory = {
            'inference_peak_bytes': 30 * 2**20, 'adaptation_peak_bytes': 45 * 2**20,
            'predicted_peak_bytes': 46 * 2**20, 'parameters_bytes': 2**22,
            'total_bytes': 60 * 2**20,
        }  # fmt: skip
        given = {
            'source': self.part(self.source),
            'clear': {'source': 51.0, 'before': 50.5, 'after': 49.25},
            'memory': memory,
            'seconds_per_frame': {'inference': 0.1, 'adaptation': 0.25, 'harness': 0.01},
            'events': EVENTS,
            'extra': extra,
        }
        return Results('ecotta_plus', rounds, **{**given, **parts}).document()

    def record(self, **changes):
        return {
            'started': '2026-01-02T03:04:05+00:00',
            'finished': '2026-01-02T04:04:05+00:00',
            'commands': [
                {'command': ['python', 'tools/test_tta.py', 'a b.py', "it's.pth"], 'folder': '/w d'}
            ],
            'environment': {'ACDC_ROOT': '/data/<acdc> x'},
            'processes': 1,
            'config': 'configs/demo.py',
            'adaptation': "adaptation = dict(\n    type='ecotta_plus', lr=1e-4)\n",
            'checkpoint': '/c/<source>.pth',
            'checkpoint_digest': '0123456789abcdef',
            'seed': 7,
            'device': 'cpu',
            'versions': {'ecotta_seg': '0.1 (abc)', 'torch': '2.13'},
            'method': 'ecotta_plus',
            'classes': list(CLASSES),
            'frames': self.rounds * len(CONDITIONS) * self.frames,
            'rounds': self.rounds,
            'metric': {'mean_over': 'labelled', 'ignore_index': 255},
            'data': {
                'frames': {c: {'frames': self.frames, 'digest': 'd' * 16} for c in CONDITIONS},
                'settings': {'AdverseWeather': '{"seed": 0}'},
            },
            **changes,
        }

    def history(self):
        entries = []
        for number, found in self.method.items():
            for (condition, _), counts in self.counts(found).items():
                score = scores(areas_of(counts), CLASSES)['mIoU']
                entry = dict.fromkeys(COLUMNS)
                entry.update(stream_index=len(entries), round=number, condition=condition,
                             loss=1 / (1 + len(entries)), updated=True, frame_mIoU=score,
                             running_mIoU=score)  # fmt: skip
                entries.append(entry)
        return entries

    def write(self, folder, areas=False, pictures=False, record=(), **parts):
        """Writes what a run leaves; gives the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_results(self.document(**parts), folder)
        write_run_file(folder, self.record(**dict(record)))
        with open(folder / 'history.csv', 'w', newline='') as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
            writer.writeheader()
            writer.writerows(self.history())
        if areas:
            self._write_areas(folder)
        if pictures:
            for condition in CONDITIONS:
                for index, kind in enumerate(('best', 'worst')):
                    self.write_frame(folder, condition, kind, index)
        return folder

    def _write_areas(self, folder):
        source = self.counts(self.source)
        with open(folder / 'frame_areas.jsonl', 'w') as file:
            for number, found in self.method.items():
                for (condition, frame), counts in self.counts(found).items():
                    of_source = areas_of(source[condition, frame]) if number == 1 else None
                    path = f'/{self.root}/set/val/drive/{frame:02d}.png'
                    line = encode_frame(number, condition, path, areas_of(counts), of_source)
                    file.write(line)

    def write_frame(self, folder, condition, kind, index):
        facts = {
            'condition': condition, 'kind': kind, 'frame': f'drive <{index}>',
            'round': self.rounds, 'stream_index': index, 'source_mIoU': 30.0,
            'adapted_mIoU': 41.5 if kind == 'best' else 28.25,
            'difference': 11.5 if kind == 'best' else -1.75,
        }  # fmt: skip
        label = self.labels[condition, index].numpy()
        image = np.repeat(label[..., None] * 60 % 256, 3, axis=-1).astype(np.uint8)
        masks = [('source', label), ('adapted', label), ('label', label)]
        palette = [[128, 64, 128], [0, 0, 142], [70, 130, 180], [0, 60, 100]]
        write_frame_file(folder, facts, image, masks, CLASSES, palette, 96)


@pytest.fixture
def made_run():
    return MadeRun


@pytest.fixture(scope='session')
def names():
    return SimpleNamespace(classes=CLASSES, conditions=CONDITIONS)


def read(path):
    return json.loads(path.read_text())
