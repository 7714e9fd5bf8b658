"""Makes the checkpoints of a training loadable without running code from the file."""

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

_PLAIN = (bool, int, float, str)


@HOOKS.register_module()
class SafeCheckpointHook(Hook):
    """Keeps only plain tensors, numbers and strings in a checkpoint.

    mmengine also saves the history of its log scalars. This history consists of NumPy arrays in an
    mmengine class, which only an unrestricted pickle can read. A training resumes without this
    history; only the curve on screen restarts.
    """

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Removes the log history, and converts NumPy scalars to Python numbers."""
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
    """Replaces NumPy scalars, which can pass as Python numbers, with Python numbers."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _without_numpy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_numpy(item) for item in value)
    return value
