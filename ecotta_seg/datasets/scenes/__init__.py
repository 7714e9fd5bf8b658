"""Procedural driving scenes, drawn and written in the layout of a data set."""
