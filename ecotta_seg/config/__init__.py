"""Configs: reads, checks and changes them."""
