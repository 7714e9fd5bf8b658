import math

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from ecotta_seg.visualization import draw_stream, plot_stream
from ecotta_seg.visualization.stream_plot import _segments, _smooth


def history(order, rounds=2):
    entries = []
    for number in range(1, rounds + 1):
        for condition in order:
            index = len(entries)
            entries.append(
                dict(
                    stream_index=index,
                    round=number,
                    condition=condition,
                    loss=0.5 + 0.01 * index,
                    entropy=math.nan if index % 5 == 0 else 0.4,
                    regularisation=0.1,
                    frame_mIoU=None if index % 7 == 0 else 30.0 + index,
                    running_mIoU=30.0 + index / 2,
                )
            )
    return entries


BLOCKS = ['fog'] * 5 + ['night'] * 5
SOURCE = {'fog': 28.0, 'night': 16.0, 'rain': None}


def lines(axes, style='-'):
    return [line for line in axes.get_lines() if line.get_linestyle() == style]


def test_blocks_have_their_own_curve_and_source_level():
    figure = draw_stream(history(BLOCKS), SOURCE, [{'stream_index': 7}, {'stream_index': 99}])
    assert isinstance(figure, Figure)
    top = figure.axes[0]
    levels = [tuple(line.get_ydata()) for line in lines(top, '--')]
    assert levels == [(28, 28), (16, 16)] * 2
    assert [tuple(line.get_xdata()) for line in lines(top, '--')][1] == (4.5, 9.5)
    curves = [line for line in lines(top) if line.get_linewidth() > 1.5]
    assert [list(line.get_xdata()) for line in curves][2] == [10, 11, 12, 13, 14]
    assert [list(line.get_ydata()) for line in curves][2] == [35, 35.5, 36, 36.5, 37]
    (event,) = [line for line in top.get_lines() if line.get_label() == 'event']
    assert list(event.get_xdata()) == [7]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        'mIoU of a frame',
        'running mIoU of the condition',
        'source mIoU of the condition',
        'event',
        'fog',
        'night',
    ]
    assert [text.get_text() for text in top.texts] == ['round 1', 'round 2']


def test_nothing_is_cut_off():
    for level in (1.0, 95.0):
        low, high = draw_stream(history(BLOCKS), {'fog': level}).axes[0].get_ylim()
        assert low == 0 and high > max(level, 30 + 19)


def test_mixed_stream_has_a_curve_for_each_condition():
    figure = draw_stream(history(['fog', 'night'] * 6), SOURCE)
    top = figure.axes[0]
    assert [line.get_ydata()[0] for line in lines(top, '--')] == [28, 16]
    curves = [line for line in lines(top) if line.get_linewidth() > 1.5]
    assert list(curves[0].get_xdata()) == [0, 2, 4, 6, 8, 10]
    assert len(curves) == 4  # two conditions in two rounds


def test_written_as_a_picture(tmp_path):
    path = plot_stream(history(BLOCKS), tmp_path / 'new' / 'stream.png', SOURCE, title='a $x')
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert [item.name for item in path.parent.iterdir()] == ['stream.png']


@pytest.mark.parametrize('length', [1, 2, 3, 250])
def test_streams_without_losses_or_labels(tmp_path, length):
    bare = [dict(stream_index=i, loss=math.nan, running_mIoU=None) for i in range(length)]
    plot_stream(bare, tmp_path / 'stream.png')
    (note,) = draw_stream(bare).axes[1].texts
    assert note.get_text() == 'no loss'


def test_empty_history_is_refused(tmp_path):
    with pytest.raises(ValueError, match='empty'):
        plot_stream([], tmp_path / 'stream.png')
    assert list(tmp_path.iterdir()) == []


def test_names_are_no_formulas(tmp_path):
    named = [{**entry, 'condition': '_$\\frac{$'} for entry in history(BLOCKS)]
    plot_stream(named, tmp_path / 'stream.png', {'_$\\frac{$': 5.0})


def test_segments_and_smoothing():
    found = [tuple(segment) for segment in _segments(history(['fog', 'fog', 'night']))]
    assert found == [(0, 1, 1, 'fog'), (2, 2, 1, 'night'), (3, 4, 2, 'fog'), (5, 5, 2, 'night')]
    smooth = _smooth(np.array([1.0, math.nan, 3.0, 5.0, math.nan, math.nan, math.nan]), 1)
    assert smooth[:5].tolist() == [1.0, 2.0, 4.0, 4.0, 5.0]
    assert np.isnan(smooth[6])
    assert len(_smooth(np.array([2.0]), 5)) == 1


def test_estimates_are_drawn_where_there_are_any():
    plain = len(lines(draw_stream(history(BLOCKS)).axes[0], ':'))
    entries = history(BLOCKS)
    for index, entry in enumerate(entries):
        entry['estimated_mIoU'] = 20.0 + index
        entry['source_estimated_mIoU'] = None if index % 2 else 18.0
        entry['source_given'] = index in (3, 4)
    top = draw_stream(entries).axes[0]
    adapted, source = lines(top, ':')[plain:]
    assert list(adapted.get_ydata()) == [20.0 + index for index in range(20)]
    assert list(source.get_ydata()[:3])[::2] == [18, 18] and math.isnan(source.get_ydata()[1])
    (given,) = [line for line in top.get_lines() if 'given out' in str(line.get_label())]
    assert list(given.get_xdata()) == [3, 4]


@pytest.mark.parametrize('narrow', [False, True])
def test_the_legend_is_inside_the_figure(narrow):
    conditions = ('fog', 'night', 'rain', 'snow')
    history = [
        dict(round=1, condition=conditions[i // 4], stream_index=i, frame_mIoU=30.0,
             running_mIoU=30.0, loss=0.1, estimated_mIoU=31.0, source_estimated_mIoU=29.0,
             source_given=i == 3)
        for i in range(16)
    ]  # fmt: skip
    source = dict.fromkeys(conditions, 20.0)
    figure = draw_stream(history, source, [{'stream_index': 2}], narrow=narrow)
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert len(legend.get_texts()) == 11
    assert 0 <= box.x0 and box.x1 <= figure.bbox.width
    assert (figure.bbox.height > figure.bbox.width) == narrow
