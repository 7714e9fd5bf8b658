"""Searches the best method for a network, or none, on clear frames with synthetic weather."""

from .candidates import Candidate, Choices, candidate_methods
from .decision import Decision, Finalist, decide
from .report import write_choice
from .search import search
from .streams import write_streams

__all__ = [
    'Candidate',
    'Choices',
    'Decision',
    'Finalist',
    'candidate_methods',
    'decide',
    'search',
    'write_choice',
    'write_streams',
]
