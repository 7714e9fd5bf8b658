"""A second set of adapters for predictions while a step changes the first set."""

from copy import deepcopy

from ..methods import AdaptationMethod


def shadow_of(method: AdaptationMethod) -> AdaptationMethod:
    """Copies a method for predictions; both share frozen parameters, not the adapted tensors."""
    learned = {id(tensor) for tensor in method.learned_tensors().values()}
    memo = {id(p): p for p in method.parameters() if id(p) not in learned}
    for name in ('optimizer', 'guard', 'compute_budget'):
        if getattr(method, name, None) is not None:
            memo[id(getattr(method, name))] = None
    for module in method.modules():
        # These tensors never change, so the copy shares them. A method may wrap another one.
        initial = getattr(module, '_initial', None)
        if initial is not None:
            memo[id(initial)] = initial
    if method.estimate is not None:
        # The copy shares the estimate: the source model, and the choice between both predictions.
        memo[id(method.estimate)] = method.estimate
    shadow = deepcopy(method, memo)
    shadow.adapting = shadow.estimating = False
    shadow.guard = shadow.observer = None
    return shadow.eval()
