"""Adds the mIoU that was estimated without labels to the scores of ``results.json``."""

from collections.abc import Mapping, Sequence

ESTIMATE_KEYS = ('estimated_mIoU', 'source_estimated_mIoU')


def with_estimates(rounds: Sequence[Mapping], estimates: Sequence[Mapping]) -> list[dict]:
    """Adds estimates to the measured scores of each round.

    Args:
        rounds: From ``PerConditionIoU.rounds``.
        estimates: From ``LabelFreeHook``; empty if there are none.

    Returns:
        The rounds. Each round and condition with an estimate also has the keys of the estimate.
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
    """Adds the estimates of the first round to the source's scores."""
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
