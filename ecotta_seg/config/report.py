"""Configures the report of a run from the command line."""

from mmengine.config import Config

from ..names.type_names import is_a


def with_report(cfg: Config, checkpoint: str, pictures: bool) -> None:
    """Passes the path of the weights to the ``ReportHook``, and makes the run keep frames.

    Args:
        cfg: Changed in place. If there is no ``ReportHook``, only the frames are kept.
        checkpoint: Path of the source model's weights.
        pictures: Whether to keep the best and the worst frames for the report. A run that writes
            pictures anyway (``PanelHook``) always keeps these frames.
    """
    hooks = list(cfg.custom_hooks)
    pictures = pictures or any(is_a(hook, 'PanelHook') for hook in hooks)
    if pictures and not any(is_a(hook, 'BestAndWorstHook') for hook in hooks):
        hooks.append(dict(type='BestAndWorstHook'))
    cfg.custom_hooks = [
        dict(hook, checkpoint=str(checkpoint)) if is_a(hook, 'ReportHook') else hook
        for hook in hooks
    ]
