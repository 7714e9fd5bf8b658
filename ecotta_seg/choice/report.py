"""Writes the choice as a page, as JSON, and as a preset."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional

from mmengine.config import Config

from ..benchmark.report import markdown_table
from ..files.atomic_io import atomic_write_text
from ..memory import MIB
from ..names.printable import printable
from .candidates import Candidate
from .decision import Decision, Finalist
from .preset import write_preset

PRESET, PAGE, DOCUMENT = 'chosen.py', 'choice.md', 'choice.json'


@dataclass(frozen=True)
class Setting:
    """The network, the weather and the frames for which the choice was made.

    Attributes:
        config, checkpoint: Config and checkpoint of the network.
        severity, rounds, conditions: Those of the streams with synthetic weather.
        frames: Number of clear frames in the search, and number in the confirmation.
        command: The command line of the search.
    """

    config: str
    checkpoint: str
    severity: int
    rounds: int
    conditions: Sequence[str]
    frames: tuple[int, int]
    command: str = ''


def sentences(decision: Decision) -> list[str]:
    """The choice as a list of sentences."""
    chosen = decision.chosen
    if chosen is None:
        if not decision.finalists:
            return [
                'Adapting does not pay: in the search no method beats the source unless the '
                f'clear day loses more than {decision.max_clear_loss:g} mIoU.'
            ]
        best = decision.finalists[0]
        return [
            f'Adapting does not pay: no finalist may be taken. The best, {best.candidate}, gains '
            f'{_gain(best)}, but {decision.why_not(best)}.'
        ]
    said = [
        f'Take {chosen.candidate}: expect {_gain(chosen)} mIoU against the source in made weather.'
    ]
    if chosen.clear_loss is not None:
        verb = 'loses' if chosen.clear_loss >= 0 else 'gains'
        said.append(f'The clear day {verb} {abs(chosen.clear_loss):.1f} mIoU.')
    if chosen.seconds and chosen.source_seconds:
        said.append(
            f'A frame takes {chosen.seconds:.3g} s ({chosen.source_seconds:.3g} s without '
            'adapting, measured on the machine of the search).'
        )
    if chosen.peak_bytes and chosen.inference_peak_bytes:
        said.append(
            f'A step needs {chosen.peak_bytes / MIB:.1f} MiB above the parameters '
            f'({chosen.inference_peak_bytes / MIB:.1f} MiB without adapting).'
        )
    return said


def write_choice(
    folder: Path,
    decision: Decision,
    scores: Mapping[Candidate, Optional[float]],
    errors: Mapping[Candidate, str],
    setting: Setting,
    cfg: Config,
    configs: Path,
) -> Path:
    """Writes ``choice.md``, ``choice.json`` and the preset ``chosen.py``.

    Args:
        folder: The folder for the three files.
        decision: The choice.
        scores: The score of each candidate, in the order of the search; None if the run failed.
        errors: For each candidate that failed, the error.
        setting: The network, the weather and the frames.
        cfg: Config of the network.
        configs: The folder ``configs``.

    Returns:
        The path of the preset.
    """
    said = sentences(decision)
    document = {
        'chosen': None if decision.chosen is None else asdict(decision.chosen),
        'finalists': [asdict(finalist) for finalist in decision.finalists],
        'max_clear_loss': decision.max_clear_loss,
        'search': [
            {**asdict(candidate), 'score': score, 'error': errors.get(candidate)}
            for candidate, score in scores.items()
        ],
        'setting': asdict(setting),
    }
    atomic_write_text(folder / DOCUMENT, json.dumps(document, indent=2) + '\n')
    atomic_write_text(folder / PAGE, _page(said, decision, scores, errors, setting))
    chosen = None if decision.chosen is None else decision.chosen.candidate
    comment = '\n'.join([*said, f'Made weather of severity {setting.severity}; see {PAGE}.'])
    write_preset(folder / PRESET, chosen, cfg, configs, comment)
    return folder / PRESET


def _page(
    said: Sequence[str],
    decision: Decision,
    scores: Mapping[Candidate, Optional[float]],
    errors: Mapping[Candidate, str],
    setting: Setting,
) -> str:
    searched, confirmed = setting.frames
    rounds = 'one round' if setting.rounds == 1 else f'{setting.rounds} rounds'
    lines = ['# Choice of a method', '', *said, '']
    lines += [
        f'Network: `{printable(setting.config)}` with `{printable(setting.checkpoint)}`. '
        f'Weather: {", ".join(setting.conditions)} of severity {setting.severity}, made on clear '
        f'frames, {rounds}. {searched} clear frames were used for the search; '
        f'{confirmed} others with other weather confirm the choice. Real weather differs from '
        'made weather: docs/choose.md.',
        '',
        '## Finalists, on the confirmation frames',
        '',
        'mIoU against the source on the same frames; the intervals of all finalists hold together '
        'with 95 %.',
        '',
    ]
    names = list(decision.finalists[0].conditions) if decision.finalists else []
    head = ['method', 'gain', *names, 'clear day', 's a frame', 'MiB a step', 'may be taken']
    rows = [
        [
            str(f.candidate),
            _gain(f),
            *(f'{f.conditions[name]:+.1f}' for name in names),
            '' if f.clear_loss is None else f'{-f.clear_loss:+.1f}',
            '' if f.seconds is None else f'{f.seconds:.3g}',
            '' if f.peak_bytes is None else f'{f.peak_bytes / MIB:.1f}',
            decision.why_not(f) or 'yes',
        ]
        for f in decision.finalists
    ]
    lines += markdown_table(head, rows)
    lines += [
        '',
        '## Search',
        '',
        'The score is the gain; if the clear day loses more than '
        f'{decision.max_clear_loss:g}, it is minus the excess.',
    ]
    tried = sorted(scores.items(), key=lambda item: (item[1] is None, -(item[1] or 0.0)))
    rows = [
        [str(c), '' if s is None else f'{s:+.2f}', printable(errors.get(c, '')).replace('|', '\\|')]
        for c, s in tried
    ]
    lines += ['', *markdown_table(['method', 'score', 'failed'], rows)]
    if setting.command:
        lines += ['', '```', printable(setting.command), '```']
    return '\n'.join(lines) + '\n'


def _gain(finalist: Finalist) -> str:
    return f'{finalist.gain:+.1f} ({finalist.low:+.1f} to {finalist.high:+.1f})'
