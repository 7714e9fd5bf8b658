"""Checks of frames: files that are damaged, and cameras that fail."""
