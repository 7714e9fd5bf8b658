"""A second set of adapters, which predicts while a step changes the first."""

from copy import deepcopy

from ..adaptation import AdaptationMethod


def shadow_of(method: AdaptationMethod) -> AdaptationMethod:
    """A copy that predicts: frozen parameters are shared, what adaptation changes is its own."""
    learned = {id(tensor) for tensor in method.learned_tensors().values()}
    memo = {id(p): p for p in method.parameters() if id(p) not in learned}
    for name in ('optimizer', 'guard'):
        if getattr(method, name, None) is not None:
            memo[id(getattr(method, name))] = None
    for module in method.modules():
        # Never written to, so that one is enough; a method may be around another one.
        initial = getattr(module, '_initial', None)
        if initial is not None:
            memo[id(initial)] = initial
    if method.estimate is not None:
        # The same source, and the choice that the stream has led to.
        memo[id(method.estimate)] = method.estimate
    shadow = deepcopy(method, memo)
    shadow.adapting = shadow.estimating = False
    shadow.guard = shadow.observer = None
    return shadow.eval()
