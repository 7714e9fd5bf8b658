"""Makes the checkpoints that a training writes loadable without running code."""

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

_PLAIN = (bool, int, float, str)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Leaves plain tensors, numbers and strings in a checkpoint.

    mmengine saves the history of its log scalars with it, as NumPy arrays in a class of its own
    that only an unrestricted pickle can read. Resuming does without: the curve on screen starts
    anew, the training does not.
    """

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Takes the log history out."""
        hub = checkpoint.get('message_hub')
        if not isinstance(hub, dict):
            return
        info = {k: v for k, v in hub['runtime_info'].items() if isinstance(v, _PLAIN)}
        keys = {k: v for k, v in hub['resumed_keys'].items() if k in info}
        hub = dict(log_scalars={}, runtime_info=info, resumed_keys=keys)
        checkpoint['message_hub'] = _without_numpy(hub)
        for key in ('meta', 'param_schedulers'):
            if key in checkpoint:
                checkpoint[key] = _without_numpy(checkpoint[key])


def _without_numpy(value: Any) -> Any:
    """NumPy's scalars, which pass for Python's numbers, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _without_numpy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_numpy(item) for item in value)
    return value
