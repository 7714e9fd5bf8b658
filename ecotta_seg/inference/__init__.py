"""Prediction of frames: sliding windows, padding, views, autocast and reduced frames."""
