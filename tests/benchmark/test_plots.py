"""What the benchmark's pictures hold: axes, labels and panels."""

import pytest

from ecotta_seg.benchmark import plot_memory, plot_rounds, plots


def _entry(method, mean, rounds=1, stream='continual', peak=2**20):
    return dict(
        model='r18', stream=stream, method=method, mean=mean, rounds=[mean] * rounds,
        peak_bytes=peak, inference_peak_bytes=peak, source_mean=20.0, batch_statistics=25.0,
    )  # fmt: skip


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws; gives the figure instead of the file."""
    figures = []
    save = plots._save

    def keep(figure, title, path):
        figures.append((figure, title))
        return save(figure, title, path)

    monkeypatch.setattr(plots, '_save', keep)
    monkeypatch.setattr(plots, 'source_of', lambda group: group[0])

    def draw(plot, entries):
        assert plot(entries, tmp_path / 'plot.png').stat().st_size
        return figures[-1]

    return draw


@pytest.mark.parametrize('rounds', [1, 2, 10])
def test_the_axis_of_rounds_has_whole_rounds(drawn, rounds):
    figure, _ = drawn(plot_rounds, [_entry('tent', 30.0, rounds), _entry('sar', 31.0, rounds)])
    (axes,) = figure.axes
    assert axes.get_xlim() == (0.5, rounds + 0.5)
    ticks = [tick for tick in axes.get_xticks() if 0.5 <= tick <= rounds + 0.5]
    assert ticks and all(tick == int(tick) for tick in ticks)
    assert rounds > 1 or ticks == [1]


@pytest.mark.parametrize('plot', [plot_rounds, plot_memory])
def test_the_seven_best_methods_are_labelled(drawn, plot):
    means = [20, 33, 21, 34, 22, 35, 23, 36, 24, 37, 25]
    figure, title = drawn(plot, [_entry(f'm{i}', float(m), 3) for i, m in enumerate(means)])
    (axes,) = figure.axes
    labels = axes.get_legend_handles_labels()[1]
    assert sorted(labels) == sorted(f'm{i}' for i, mean in enumerate(means) if mean >= 23.5)
    assert len(labels) == 7 and '4 other methods' in title
    figure, title = drawn(plot, [_entry(f'm{i}', 20.0 + i, 3) for i in range(7)])
    assert len(figure.axes[0].get_legend_handles_labels()[1]) == 7 and 'other' not in title


def test_what_was_not_measured_leaves_no_panel(drawn):
    entries = [_entry('tent', 30.0), _entry('tent', 30.0, stream='mixed', peak=None)]
    assert len(drawn(plot_memory, entries)[0].axes) == 1
    assert len(drawn(plot_rounds, entries)[0].axes) == 2
    figure, _ = drawn(plot_memory, entries[1:])
    assert not figure.axes and figure.texts[0].get_text() == 'nothing was measured'
