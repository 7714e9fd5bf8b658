"""Plots of a report, as text to embed in a page."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.table import condition_score
from ..visualization.stream_plot import draw_stream


def stream_plots(document: Mapping, history: Sequence[Mapping]) -> dict[str, str]:
    """Draws the plot of a stream for a wide and for a narrow screen.

    Args:
        document: A document of ``results.json``.
        history: See ``plot_stream``.

    Returns:
        ``'wide'`` and ``'narrow'``, each the data URI of a PNG; empty without a history.
    """
    if not history:
        return {}
    source = document['source']
    levels = {name: condition_score(source, name) for name in source['conditions']}
    events = document['events']
    sizes: dict[str, Any] = {'wide': dict(dpi=110), 'narrow': dict(dpi=160)}
    return {
        name: _png(draw_stream(history, levels, events, narrow=name == 'narrow'), **options)
        for name, options in sizes.items()
    }


def _png(figure: Any, dpi: int) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode("ascii")}'
