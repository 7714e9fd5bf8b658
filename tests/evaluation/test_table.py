import io

import pytest
from rich.console import Console

from ecotta_seg.evaluation.results import Results
from ecotta_seg.evaluation.table import print_results, render_results
from ecotta_seg.names.printable import printable

MIB = 2**20


def part(fog, night, **more):
    def scores(value):
        iou = {'road': value, '[red]car': None, 'train': 0.0}
        result = {'mIoU': value, 'aAcc': 90.0, 'frames': 4, 'frames_without_label': 0, 'IoU': iou}
        return {**result, 'left_out': ['[red]car', 'train']}

    conditions = {'fog': scores(fog), 'night': scores(night)}
    return {**more, 'conditions': conditions, 'mIoU': (fog + night) / 2}


def full(**kwargs):
    memory = {
        'inference_peak_bytes': 100 * MIB,
        'adaptation_peak_bytes': 250 * MIB,
        'parameters_bytes': 50 * MIB,
        'adapters_bytes': 3 * MIB,
        'gradients_bytes': 4 * MIB,
        'optimizer_bytes': 5 * MIB,
        'activations_bytes': 241 * MIB,
        'process_peak_bytes': 999 * MIB,
        'kept_bytes': 7 * MIB,
        'total_bytes': 310 * MIB,
    }
    parts = dict(
        rounds=[part(41.0, 30.0, round=1), part(43.0, 31.0, round=2)],
        source=part(38.0, 32.5),
        clear={
            'source': 45.6,
            'before': 45.1,
            'after': 41.1,
            'references': {'batch statistics': 40.2},
        },
        memory=memory,
        seconds_per_frame={
            'inference': 0.5,
            'adaptation': 1.25,
            'harness': 0.05,
            'harness_share': 0.042,
        },
        events=[{'event': 'rollback'}, {'event': 'rollback'}, {'event': 'skip'}],
        extra={'references': {'batch statistics': part(39.0, 33.0)}},
    )
    return Results('ecotta', **{**parts, **kwargs}).document()


def shown(document, width=100):
    console = Console(width=width, file=io.StringIO())
    print_results(document, console)
    return console.file.getvalue()


def row(text, start):
    line = next(line for line in text.splitlines() if line.startswith(start))
    return line[len(start) :].split()


def test_rows_hold_the_numbers():
    text = shown(full())
    # The fifth of these is the clear day.
    assert row(text, 'source  ')[:5] == ['38.00', '32.50', '35.25', '–', '45.60']
    assert row(text, 'batch statistics')[:5] == ['39.00', '33.00', '36.00', '+0.75', '40.20']
    assert row(text, 'ecotta, round 1') == ['41.00', '30.00', '35.50', '+0.25', '–', '90.00']
    assert row(text, 'ecotta, round 2') == ['43.00', '31.00', '37.00', '+1.75', '41.10', '90.00']
    assert row(text, 'ecotta, all rounds') == ['42.00', '30.50', '36.25', '+1.00', '–', '90.00']
    assert row(text, 'road') == ['43.00', '31.00', '37.00', '35.25', '+1.75']
    for expected in (
        'forgetting 4.00',
        'after, to source -4.50',
        'peak, adapting 250.0',
        '2.50x',
        'activations 241.0',
        'process peak 999.0',
        'kept copies 7.0',
        'total 310.0',
        'loop overhead 0.050 (+4.2%)',
        'Scored frames per condition and round: 4.',
        'Never in the labels, so left out of the mean: [red]car, train.',
        'Events: 2 x rollback, 1 x skip',
        'Each prediction is made on 1 view;',
    ):
        assert ' '.join(expected.split()) in ' '.join(text.split()), expected


def test_better_is_green_and_worse_is_red():
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system='standard')
    console.print(render_results(full()))
    line = next(x for x in console.file.getvalue().splitlines() if x.startswith('ecotta, round 1'))
    assert '\x1b[32m41.00' in line and '\x1b[31m30.00' in line


@pytest.mark.parametrize('width', [60, 80, 100])
def test_fits_the_width_and_cuts_nothing_off(width):
    text = shown(full(), width)
    assert max(map(len, text.splitlines())) <= width
    assert '…' not in text


def test_what_was_not_measured_is_left_out():
    text = shown(full(memory=None, clear=None, seconds_per_frame=None, source=None, extra={}))
    for absent in ('Memory', 'Clear day', 'Time per frame', 'Peaks', 'to source'):
        assert absent not in text
    assert 'ecotta, round 1' in text
    assert not [line for line in text.splitlines() if line.startswith('source  ')]
    assert shown(Results('ecotta').document())
    only_memory = shown(Results('ecotta', memory={'adaptation_peak_bytes': MIB}).document())
    assert row(only_memory, 'peak, adapting') == ['1.0']


def test_frames_without_label_are_told():
    document = full()
    document['rounds'][0]['conditions']['fog'].update(frames=3, frames_without_label=1)
    text = shown(document)
    assert '1 frames without a label were predicted but not scored.' in text
    assert 'Scored frames per condition and round: 3-4.' in text


def test_without_labels_the_estimate_takes_the_place_of_the_scores():
    document = full()
    entries = [document['source'], *document['rounds']]
    for entry in entries:
        for result in [entry, *entry['conditions'].values()]:
            result.update(mIoU=None, aAcc=None, frames=0)
    text = shown(document)
    assert 'Nothing was scored or estimated: --cfg-options estimate.every=5' in text
    assert 'mIoU in percent' not in text and 'IoU per class' not in text
    for number, entry in enumerate(entries):
        entry['estimated_mIoU'] = 20.0 + number
        entry['conditions']['fog']['estimated_mIoU'] = 10.0 + number
    text = shown(document)
    assert 'estimated mIoU in percent' in text and 'IoU per class' not in text
    assert row(text, 'source') == ['10.00', '–', '20.00']
    assert row(text, 'ecotta, round 2') == ['12.00', '–', '22.00']
    assert 'Nothing was scored' not in text


def test_names_are_shown_as_they_are():
    document = full(events=[{'event': '\x1b[2Jclear\nme'}])
    document['method'] = '[bold]x[/nope]'
    document['references'] = {'\x1b]0;title\x07': {'conditions': {'fog': 1.0}, 'mIoU': None}}
    text = shown(document)
    assert '[bold]x[/nope], round 1' in text
    assert '\x1b' not in text and '\x07' not in text
    assert '\\x1b[2Jclear\\nme' in text


def test_printable_keeps_letters_and_escapes_the_rest():
    assert printable('Straße 北 [x]') == 'Straße 北 [x]'
    assert printable('a\x1b[31m\r\n\u202e\udcff') == 'a\\x1b[31m\\r\\n\\u202e\\udcff'


def test_the_plan_stands_beside_what_was_measured():
    memory = {
        **full()['memory'],
        'predicted_peak_bytes': 245 * MIB,
        'budget_bytes': 260 * MIB,
        'plan': 'kept of part 1: input alone',
        'fallbacks': ['neck.[conv]', 'head'],
    }
    text = shown(full(memory=memory))
    assert '245.0' in text and '260.0' in text
    assert 'Memory plan: kept of part 1: input alone.' in text
    assert 'Run by lean autograd: neck.[conv], head.' in text
    plain = shown(full())
    assert 'predicted' not in plain and 'autograd' not in plain


def test_a_measured_peak_above_the_predicted_one_is_explained():
    memory = full()['memory']
    peak = memory['adaptation_peak_bytes']
    for predicted, explained in ((peak - MIB, True), (peak, False), (peak + MIB, False)):
        text = shown(full(memory={**memory, 'predicted_peak_bytes': predicted}))
        assert ('The measured peak is above the predicted one' in text) == explained
