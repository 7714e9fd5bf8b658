"""The stream: its order, its metainfo, and the Runner's loaders on it."""

import sys

import numpy as np
import pytest
from mmengine.runner import Runner
from mmseg.registry import DATASETS

from ecotta_seg.datasets import ContinualStream, StreamPosition
from ecotta_seg.datasets.continual_stream import ramp_severity
from ecotta_seg.names.old_names import OldNameWarning

CONDITIONS = ('fog', 'night', 'rain', 'snow')


@pytest.fixture
def inner(acdc, pipeline) -> dict:
    return {'type': 'ACDCDataset', 'data_root': str(acdc), 'pipeline': pipeline}


@pytest.fixture
def weather(cityscapes) -> dict:
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'AdverseWeather'},
        {'type': 'LoadAnnotations'},
        {'type': 'PackSegInputs'},
    ]
    return {
        'type': 'WeatherCityscapesDataset',
        'data_root': str(cityscapes),
        'severity': 5,
        'pipeline': pipeline,
    }


def test_conditions_by_rounds_in_sorted_order(acdc, inner):
    stream = DATASETS.build({'type': 'ContinualStream', 'dataset': inner, 'rounds': 3})
    expected = [
        (number, condition, str(path))
        for number in (1, 2, 3)
        for condition in CONDITIONS
        for path in sorted((acdc / 'rgb_anon' / condition / 'train').rglob('*.png'))
    ]
    seen = []
    for index in range(len(stream)):
        info = stream.get_data_info(index)
        assert info['stream_index'] == index
        seen.append((info['round'], info['condition'], info['img_path']))
    assert seen == expected and len(stream) == 60 and stream.frames_per_round == 20


def test_metainfo_is_written_after_a_stock_pipeline(inner):
    stream = ContinualStream(inner, conditions=('snow', 'fog'), rounds=2)
    metainfo = stream[-1]['data_samples'].metainfo
    entries = {key: metainfo[key] for key in ('condition', 'sequence', 'round', 'stream_index')}
    assert entries == {'condition': 'fog', 'sequence': 'GP1', 'round': 2, 'stream_index': 19}
    assert type(metainfo['round']) is int and type(metainfo['stream_index']) is int
    assert stream.metainfo['classes'][18] == 'bicycle' and len(stream.metainfo['palette']) == 19


def test_unpacked_samples_carry_the_entries_as_keys(inner):
    inner['pipeline'] = [{'type': 'LoadImageFromFile'}]
    sample = ContinualStream(inner, rounds=1)[7]
    assert (sample['condition'], sample['round'], sample['stream_index']) == ('night', 1, 7)


def test_evenly_spaced_subset(inner):
    stream = ContinualStream(inner, rounds=2, frames_per_condition=3)
    assert [stream.position(index).frame for index in range(3)] == [0, 1, 3]
    assert len(stream) == 2 * 4 * 3
    assert stream.position(13) == StreamPosition(2, 'fog', 1, None)


def test_indexing_is_a_pure_function_of_the_index(inner):
    stream = ContinualStream(inner, rounds=3, order='mixed', seed=4)
    forward = [stream.position(index) for index in range(len(stream))]
    other = ContinualStream(inner, rounds=3, order='mixed', seed=4)
    backward = [other.position(index) for index in reversed(range(len(stream)))][::-1]
    assert forward == backward
    assert stream.position(-1) == forward[-1]
    with pytest.raises(IndexError):
        stream.position(len(stream))


def test_mixed_mixes_conditions_and_keeps_every_frame(inner):
    stream = ContinualStream(inner, rounds=3, order='mixed', seed=4)
    rounds = [[stream.position(20 * r + i) for i in range(20)] for r in range(3)]
    for number, places in enumerate(rounds, start=1):
        assert {place.round for place in places} == {number}
        assert len({place[1:3] for place in places}) == 20
        runs = sum(a.condition != b.condition for a, b in zip(places, places[1:]))
        assert runs > 6  # Condition after condition would be 3.
    assert [p[1:] for p in rounds[0]] != [p[1:] for p in rounds[1]]
    other = ContinualStream(inner, rounds=3, order='mixed', seed=5)
    assert [other.position(i) for i in range(20)] != rounds[0]


@pytest.mark.parametrize(('old', 'new'), [('sequential', 'continual'), ('shuffled', 'mixed')])
def test_old_names_of_orders_are_read_with_a_warning(inner, old, new):
    with pytest.warns(OldNameWarning, match=f'`{old}` is now called `{new}`'):
        found = ContinualStream(inner, rounds=2, order=old)
    expected = ContinualStream(inner, rounds=2, order=new)
    assert [found.position(i) for i in range(40)] == [expected.position(i) for i in range(40)]


def test_ramp_rises_and_falls(weather):
    stream = ContinualStream(weather, conditions=('fog', 'night'), rounds=1, order='ramp')
    severities = [stream.position(index).severity for index in range(6)]
    assert severities == severities[::-1] and severities[0] == 1 and max(severities) > 2
    plain = ContinualStream(weather, conditions=('fog', 'night'), rounds=1)
    assert stream.get_data_info(0)['severity'] == 1 and plain.get_data_info(0)['severity'] == 5
    light, severe = stream[0]['inputs'].float(), plain[0]['inputs'].float()
    clear = ContinualStream(weather, conditions=('clear',), rounds=1)[0]['inputs'].float()
    assert (light - clear).abs().mean() < (severe - clear).abs().mean()
    assert plain[0]['inputs'].float().equal(severe)  # The ramp has left nothing behind.


@pytest.mark.parametrize('count', [1, 2, 3, 9, 40, 400])
def test_ramp_severities(count):
    ramp = [ramp_severity(place, count, 5) for place in range(count)]
    assert ramp == ramp[::-1] and set(ramp) <= {1, 2, 3, 4, 5}
    middle = (count + 1) // 2
    assert ramp[:middle] == sorted(ramp[:middle])
    if count >= 9:
        assert ramp[0] == 1 and set(ramp) == {1, 2, 3, 4, 5}


def test_rounds_cost_no_memory(inner):
    def size(value) -> int:
        if isinstance(value, dict):
            return sys.getsizeof(value) + sum(size(item) for item in value.values())
        if isinstance(value, (list, tuple)):
            return sys.getsizeof(value) + sum(size(item) for item in value)
        return value.nbytes if isinstance(value, np.ndarray) else sys.getsizeof(value)

    few = ContinualStream(inner, rounds=1, order='mixed')
    many = ContinualStream(inner, rounds=100_000, order='mixed')
    for stream in (few, many):
        for index in range(0, len(stream), max(1, len(stream) // 50)):
            stream.position(index)
    assert len(many) == 2_000_000 and size(vars(many)) <= size(vars(few)) + 64


@pytest.mark.parametrize('workers', [0, 1])
def test_the_runner_builds_and_batches_it(inner, workers):
    config = {
        'batch_size': 1,
        'num_workers': workers,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'dataset': {'type': 'ContinualStream', 'dataset': inner, 'rounds': 2},
    }
    loader = Runner.build_dataloader(config, seed=3)
    indices = []
    for batch in loader:
        assert batch['inputs'][0].shape == (3, 12, 16)
        indices.append(batch['data_samples'][0].metainfo['stream_index'])
    assert indices == list(range(40))


def test_lazy_init_lists_nothing(inner):
    inner['data_root'] = '/nowhere'
    stream = ContinualStream(inner, lazy_init=True)
    with pytest.raises(ValueError, match='/nowhere/rgb_anon does not exist'):
        stream.full_init()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'rounds': 0}, 'rounds must be a whole number from 1 up, not 0'),
        ({'rounds': 2.5}, 'rounds must be a whole number'),
        ({'frames_per_condition': 0}, 'frames_per_condition must be'),
        ({'frames_per_condition': 6}, "is 6 but the condition 'fog' has 5 frames"),
        ({'conditions': ('fog', 'hail')}, "unknown condition 'hail'"),
        ({'conditions': ('fog', 'fog')}, 'different names'),
        ({'conditions': ()}, 'different names'),
        ({'order': 'backwards'}, "unknown order 'backwards'"),
        ({'order': ['mixed']}, 'unknown order'),
        ({'order': 'ramp'}, 'needs an inner dataset with a severity'),
    ],
)
def test_mistakes_are_one_sentence(inner, arguments, words):
    with pytest.raises(ValueError, match=words) as raised:
        ContinualStream(inner, **arguments)
    assert '\n' not in str(raised.value)


def test_ramp_needs_a_transform_that_reads_the_severity(weather):
    weather['pipeline'][1]['severity'] = 3
    with pytest.raises(ValueError, match='AdverseWeather without one'):
        ContinualStream(weather, order='ramp')


def test_inner_dataset_without_condition(cityscapes):
    with pytest.raises(ValueError, match='CityscapesDataset takes no `condition`'):
        ContinualStream({'type': 'CityscapesDataset', 'data_root': str(cityscapes)})
    with pytest.raises(TypeError, match='config of an inner dataset'):
        ContinualStream('ACDCDataset')
