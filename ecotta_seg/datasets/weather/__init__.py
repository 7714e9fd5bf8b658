"""Synthetic weather on clear frames."""
