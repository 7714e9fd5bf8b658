"""Estimates without labels beside the measured scores of ``results.json``."""

from collections.abc import Mapping, Sequence

ESTIMATE_KEYS = ('estimated_mIoU', 'source_estimated_mIoU')


def with_estimates(rounds: Sequence[Mapping], estimates: Sequence[Mapping]) -> list[dict]:
    """Puts what was estimated beside what was measured.

    Args:
        rounds: As from ``PerConditionIoU.rounds``.
        estimates: As from ``LabelFreeHook``; empty for none.

    Returns:
        The rounds, with the estimates' keys in those conditions and rounds that have one.
    """
    found = {entry['round']: entry for entry in estimates}
    both = []
    for entry in rounds:
        estimate = dict(found.get(entry['round'], {'conditions': {}}))
        conditions = estimate.pop('conditions')
        scores = {
            name: {**result, **conditions.get(name, {})}
            for name, result in entry.get('conditions', {}).items()
        }
        both.append({**entry, **estimate, 'conditions': scores})
    return both


def source_with_estimates(source: Mapping, estimates: Sequence[Mapping]) -> dict:
    """The same of the source's scores, by the estimates of the first round."""
    if not estimates:
        return dict(source)
    first = estimates[0]
    of_source = {
        name: {'estimated_mIoU': found['source_estimated_mIoU']}
        for name, found in first['conditions'].items()
    }
    scores = {
        name: {**result, **of_source.get(name, {})}
        for name, result in source.get('conditions', {}).items()
    }
    return {**source, 'conditions': scores, 'estimated_mIoU': first['source_estimated_mIoU']}
