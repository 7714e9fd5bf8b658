"""What happens to a frame, in order."""

from typing import Any, Optional

from torch import Tensor


def predict_and_learn(
    method: Any, inputs: Tensor, metas: list[dict], guard: Optional[Any] = None
) -> Tensor:
    """Predicts frames and learns from them.

    The method proposes an update. The guard accepts or discards the update, and may afterwards
    restore earlier parameters. A method that updates during its backward has made the update by
    then: the guard can only undo it.

    Args:
        method: An ``AdaptationMethod``.
        inputs: (N, 3, H, W), preprocessed and padded.
        metas: The metainfo of the N samples.
        guard: An ``UpdateGuard``; None accepts each update.

    Returns:
        (N, classes, H, W) logits, detached, of the forward before the update. If the parameters and
        these logits are not finite, the logits of the repaired model.
    """
    if guard is not None and guard.pauses_frame(method):
        return method.predict_frame(inputs, metas)
    method.begin_frame()
    try:
        logits = method.propose(inputs, metas)
        judged = logits if method.learned_from is None else method.learned_from
        if guard is None or guard.accepts(method, inputs, metas, judged):
            method.update()
    finally:
        method.discard()
    return logits if guard is None else guard.after_update(method, inputs, metas, logits)
