"""The guard accepts or undoes the updates of a method."""

from .guard import UpdateGuard

__all__ = ['UpdateGuard']
