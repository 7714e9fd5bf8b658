"""The registry of adaptation methods."""

from mmengine.registry import Registry

ADAPTATION_METHODS = Registry('adaptation method', locations=['ecotta_seg.methods'])
