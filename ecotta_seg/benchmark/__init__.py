"""Methods x models x streams x seeds: each cell is a separate run; one report covers all cells."""

from .aggregate import aggregate, source_of
from .cells import (
    Cell,
    MethodSpec,
    ModelSpec,
    cell_folder,
    cell_status,
    holds_others,
    make_cells,
)
from .engine import engine, runs_at_once
from .plots import plot_memory, plot_rounds
from .ray_engine import RayOptions, run_cells_on_ray
from .report import write_report
from .runner import cell_command, run_cell, run_cells
from .summary import collect_cells, read_cells, summarise

__all__ = [
    'Cell',
    'MethodSpec',
    'ModelSpec',
    'RayOptions',
    'aggregate',
    'cell_command',
    'cell_folder',
    'cell_status',
    'collect_cells',
    'engine',
    'holds_others',
    'make_cells',
    'plot_memory',
    'plot_rounds',
    'read_cells',
    'run_cell',
    'run_cells',
    'run_cells_on_ray',
    'runs_at_once',
    'source_of',
    'summarise',
    'write_report',
]
