"""The file with the areas of each frame: written, read and matched with the results."""

import pytest
import torch

from ecotta_seg.evaluation.class_areas import class_areas, scores
from ecotta_seg.evaluation.frame_areas import encode_frame, load_frame_areas

NAMES = ('road', 'car', 'sky', 'bus')


def _frames(seed, count):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (count, 6, 8), generator=torch.Generator().manual_seed(9))
    prediction = torch.randint(0, 4, (count, 6, 8), generator=generator)
    return torch.stack([class_areas(p, one, 4) for p, one in zip(prediction, label)])


def _scores(areas):
    return dict(scores(areas.sum(0), NAMES), frames=len(areas))


@pytest.fixture
def run(tmp_path):
    """Lines of two rounds of fog, the frames not in order, and the results beside them."""
    first, second, source = _frames(1, 3), _frames(2, 3), _frames(3, 3)
    lines = []
    for number, areas in ((1, first), (2, second)):
        for place in (2, 0, 1):
            below = source[place] if number == 1 else None
            lines.append(encode_frame(number, 'fog', f'{place}.png', areas[place], below))
    document = {
        'rounds': [
            {'round': number, 'conditions': {'fog': _scores(areas)}}
            for number, areas in ((1, first), (2, second))
        ],
        'source': {'conditions': {'fog': _scores(source)}},
    }
    path = tmp_path / 'frame_areas.jsonl'
    path.write_text(''.join(lines))
    return path, lines, document, torch.stack([first, second]), source


def test_areas_are_read_as_they_were(run):
    path, _, document, method, source = run
    found = load_frame_areas(path.parent, document)
    assert found.frames == {'fog': ['0.png', '1.png', '2.png']}
    assert torch.equal(found.method['fog'], method)
    assert torch.equal(found.source['fog'], source[None])


def test_processes_are_put_together(run):
    path, lines, document, method, _ = run
    path.write_text(''.join(lines[::2]))
    # The last process repeats a frame.
    rest = ''.join([*lines[1::2], lines[0]])
    (path.parent / 'frame_areas_rank1.jsonl').write_text(rest)
    assert torch.equal(load_frame_areas(path.parent, document).method['fog'], method)


def test_a_run_without_areas_says_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match='with --frame-areas'):
        load_frame_areas(tmp_path, {})


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda lines: lines[:-1], 'fog of round 2 has 2 frames instead of 3'),
        (lambda lines: lines[1:], 'fog of round 1 has 2 frames instead of 3'),
        (lambda lines: lines[:-1] + [lines[-1][:20]], 'line 6 is damaged'),
        (lambda lines: [*lines[:-1], '[]\n'], 'line 6 is no object'),
        (lambda lines: [*lines[:-1], '{}\n'], 'to none of their frames'),
        (lambda lines: [line.replace('fog', 'rain') for line in lines], 'to none of their frames'),
        (lambda lines: [line.replace('[0,', '[9,') for line in lines], 'to none of their frames'),
        (lambda lines: [*lines[:3], *lines[:3]], 'fog of round 2 has 0 frames'),
        (
            lambda lines: [*lines[:-1], lines[-1].replace('1.png', '7.png')],
            'the source and the rounds of fog have other frames',
        ),
        (
            lambda lines: [lines[0].replace('"source":[[0,', '"source":[[3,'), *lines[1:]],
            'fog of the source sums up to other scores',
        ),
        (
            lambda lines: [*lines[:-1], lines[0].replace('"round":1', '"round":2')],
            'fog of round 2 has 2 frames',
        ),
    ],
)
def test_what_is_not_of_the_results_is_refused(run, change, message):
    path, lines, document, *_ = run
    path.write_text(''.join(change(lines)))
    with pytest.raises(ValueError, match=message):
        load_frame_areas(path.parent, document)


def test_scores_of_another_run_are_noticed(run):
    path, _, document, *_ = run
    document['rounds'][1]['conditions']['fog']['IoU']['car'] += 0.01
    with pytest.raises(ValueError, match='round 2 sums up to other scores'):
        load_frame_areas(path.parent, document)
