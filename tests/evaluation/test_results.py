import copy
import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_seg.evaluation.estimates import source_with_estimates, with_estimates
from ecotta_seg.evaluation.results import (
    Results,
    load_results,
    save_results,
    validate_results,
)


def scores(value, **iou):
    return {'mIoU': value, 'aAcc': 90.0, 'frames': 4, 'IoU': iou or {'road': value, 'bus': None}}


def results(**kwargs):
    rounds = [
        {
            'round': number,
            'conditions': {'fog': scores(40.0 + number), 'night': scores(30.0)},
            'mIoU': 35.0 + number / 2,
        }
        for number in (1, 2)
    ]
    source = {'conditions': {'fog': scores(38.0), 'night': scores(20.0)}, 'mIoU': 29.0}
    return Results('ecotta', rounds, **{'source': source, **kwargs})


def test_document_has_exactly_the_keys_of_the_schema():
    document = results().document()
    assert list(document) == [
        'schema',
        'method',
        'conditions',
        'rounds',
        'mean_mIoU',
        'source',
        'clear',
        'memory',
        'seconds_per_frame',
        'events',
    ]
    assert document['schema'] == 1
    assert document['conditions'] == ['fog', 'night']
    assert document['mean_mIoU'] == 35.75
    assert set(document['clear']) == {'source', 'before', 'after'}
    assert set(document['memory']) == {
        'inference_peak_bytes',
        'adaptation_peak_bytes',
        'parameters_bytes',
        'adapters_bytes',
        'gradients_bytes',
        'optimizer_bytes',
    }
    assert set(document['seconds_per_frame']) == {'inference', 'adaptation'}


def test_nothing_measured_is_null():
    document = Results('source').document()
    assert document['rounds'] == [] and document['mean_mIoU'] is None
    assert document['source'] == {'conditions': {}, 'mIoU': None}
    assert set(document['memory'].values()) == {None}


def test_saved_and_loaded_again(tmp_path):
    folder = tmp_path / 'deep' / 'work dir'
    document = results(extra={'seed': 3, 'method': 'cannot replace'}).document()
    json_path, csv_path = save_results(document, folder)
    assert sorted(path.name for path in folder.iterdir()) == ['results.csv', 'results.json']
    assert load_results(folder) == load_results(json_path) == document
    assert (document['seed'], document['method']) == (3, 'ecotta')
    with open(csv_path, newline='') as file:
        rows = list(csv.DictReader(file))
    assert [(r['method'], r['round'], r['condition']) for r in rows] == [
        ('source', '', 'fog'),
        ('source', '', 'night'),
        ('ecotta', '1', 'fog'),
        ('ecotta', '1', 'night'),
        ('ecotta', '2', 'fog'),
        ('ecotta', '2', 'night'),
    ]
    assert float(rows[4]['mIoU']) == 42.0
    assert float(rows[4]['IoU road']) == 42.0 and rows[4]['IoU bus'] == ''


def test_numbers_that_json_lacks_are_null(tmp_path):
    document = results(
        clear={'source': float('nan'), 'before': np.float32(45.5), 'after': torch.tensor(40.0)},
        memory={'inference_peak_bytes': np.int64(5), 'curve': np.array([1.0, np.inf])},
        events=[{'loss': float('-inf')}],
    ).document()
    save_results(document, tmp_path)
    text = (tmp_path / 'results.json').read_text()
    assert 'NaN' not in text and 'Infinity' not in text
    loaded = load_results(tmp_path)
    assert loaded['clear'] == {'source': None, 'before': 45.5, 'after': 40.0}
    assert loaded['memory']['curve'] == [1.0, None]
    assert loaded['memory']['inference_peak_bytes'] == 5
    assert loaded['events'] == [{'loss': None}]


def test_names_of_any_kind_survive(tmp_path):
    name = 'a,"b"\n\udcff'
    rounds = [{'round': 1, 'conditions': {name: scores(1.0)}, 'mIoU': 1.0}]
    save_results(Results('x', rounds).document(), tmp_path)
    assert load_results(tmp_path)['conditions'] == [name]
    with open(tmp_path / 'results.csv', newline='', encoding='utf-8') as file:
        assert list(csv.DictReader(file))[0]['condition'] == 'a,"b"\n\\udcff'


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        (('schema',), 2, 'schema must be 1'),
        (('method',), None, 'method must be a string'),
        (('rounds',), {}, 'rounds must be a list'),
        (('rounds', 1, 'round'), 1, r'rounds\[1\].round must be an integer above 1'),
        (('rounds', 0, 'mIoU'), 101, r'rounds\[0\].mIoU must be a number from 0 to 100'),
        (('rounds', 0, 'mIoU'), math.nan, r'rounds\[0\].mIoU'),
        (('rounds', 0, 'conditions', 'fog', 'frames'), 1.5, 'fog.frames must be a count'),
        (('rounds', 0, 'conditions', 'fog', 'IoU', 'road'), 'x', 'fog.IoU.road'),
        (('rounds', 0, 'conditions', 'fog'), {}, "fog lacks the key 'mIoU'"),
        (('conditions',), ['fog'], r'rounds\[0\].conditions must be among'),
        (('source',), None, 'source must be an object'),
        (('memory', 'optimizer_bytes'), -1, 'memory.optimizer_bytes'),
        (('memory', 'kept_bytes'), 'much', 'memory.kept_bytes'),
        (('seconds_per_frame', 'inference'), True, 'seconds_per_frame.inference'),
        (('seconds_per_frame', 'harness_share'), 'much', 'seconds_per_frame.harness_share'),
        (('events',), ['x'], r'events\[0\] must be an object'),
        (('references',), {'bn': {}}, "references.bn lacks the key 'conditions'"),
    ],
)
def test_what_does_not_fit_is_named(path, value, message):
    document = copy.deepcopy(results().document())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message) as caught:
        validate_results(document)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('key', list(results().document()))
def test_missing_key_is_named(key):
    document = results().document()
    del document[key]
    with pytest.raises(ValueError, match=f'lacks the key {key!r}'):
        validate_results(document)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(['schema', 'x']), inner),
        max_leaves=6,
    )
)
def test_any_json_is_refused_by_value_error(value):
    with pytest.raises(ValueError):
        validate_results(value)
    for key in ('rounds', 'source', 'clear', 'memory', 'conditions', 'references'):
        document = results().document()
        document[key] = value
        try:
            validate_results(document)
        except ValueError:
            pass


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / 'results.json'
    with pytest.raises(FileNotFoundError, match='test_tta'):
        load_results(tmp_path)
    text = json.dumps(results().document())
    for damaged in ('', text[:-9], text.replace('35.75', 'NaN'), '[' * 100000):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r'results.json is not a results file'):
            load_results(path)
    path.write_bytes(b'\xff\xfe')
    with pytest.raises(ValueError, match=r'results.json is not a results file'):
        load_results(path)


def test_refused_document_leaves_the_old_file(tmp_path):
    document = results().document()
    save_results(document, tmp_path)
    with pytest.raises(ValueError):
        save_results({**document, 'schema': 3}, tmp_path)
    assert load_results(tmp_path) == document


def test_estimates_are_put_beside_scores():
    rounds, source = results().rounds, results().source
    found = {'estimated_mIoU': 33.0, 'source_estimated_mIoU': 31.0, 'source_given': 0.25}
    estimates = [{'round': 2, 'conditions': {'fog': found}, **found}]
    both = with_estimates(rounds, estimates)
    assert both[0] == rounds[0]
    assert both[1]['conditions']['fog'] == {**scores(42.0), **found}
    assert both[1]['conditions']['night'] == scores(30.0)
    assert {key: both[1][key] for key in found} == found and both[1]['mIoU'] == 36.0
    of_source = source_with_estimates(source, estimates)
    assert of_source['estimated_mIoU'] == 31.0 and of_source['mIoU'] == 29.0
    assert of_source['conditions']['fog'] == {**scores(38.0), 'estimated_mIoU': 31.0}
    assert source_with_estimates(source, []) == source


def test_estimates_are_checked_and_have_columns(tmp_path):
    found = {'estimated_mIoU': 33.0, 'source_estimated_mIoU': None, 'source_given': 0.0}
    estimates = [{'round': 1, 'conditions': {'fog': found}, **found}]
    document = Results('ecotta', with_estimates(results().rounds, estimates)).document()
    save_results(document, tmp_path)
    rows = list(csv.DictReader((tmp_path / 'results.csv').open()))
    assert [row['estimated_mIoU'] for row in rows] == ['33.0', '', '', '']
    save_results(results().document(), tmp_path)
    assert 'estimated_mIoU' not in (tmp_path / 'results.csv').read_text()
    document['rounds'][0]['conditions']['fog']['estimated_mIoU'] = 101
    with pytest.raises(ValueError, match='fog.estimated_mIoU'):
        validate_results(document)


def test_confusion_is_checked():
    row = {'road': {'road': 12, 'sky': 3}}
    confusion = {'method': {'round': 2, 'pixels': row}, 'source': None}
    assert results(extra={'confusion': confusion}).document()['confusion'] == confusion
    for wrong in (5, {'pixels': row}, {'round': 1, 'pixels': [3]}, {'round': 1, 'pixels': {'a': 1}},
                  {'round': 1, 'pixels': {'road': {'road': -1}}},
                  {'round': 1, 'pixels': {'road': {'road': 0.5}}}):  # fmt: skip
        with pytest.raises(ValueError, match=r'confusion\.method must be'):
            results(extra={'confusion': {'method': wrong}}).document()
