"""Runs every combination of methods, models, streams and seeds, and reports on all runs."""

from .aggregate import aggregate, source_of
from .engine import engine, runs_at_once
from .plots import plot_memory, plot_rounds
from .ray_engine import RayOptions, execute_runs_on_ray
from .report import write_report
from .runner import execute_run, execute_runs, run_command
from .runs import (
    BenchmarkRun,
    MethodSpec,
    ModelSpec,
    holds_others,
    make_runs,
    run_folder,
    run_status,
)
from .slurm_engine import SlurmOptions, execute_runs_on_slurm
from .summary import collect_runs, read_runs, summarise

__all__ = [
    'BenchmarkRun',
    'MethodSpec',
    'ModelSpec',
    'RayOptions',
    'SlurmOptions',
    'aggregate',
    'run_command',
    'run_folder',
    'run_status',
    'collect_runs',
    'engine',
    'holds_others',
    'make_runs',
    'plot_memory',
    'plot_rounds',
    'read_runs',
    'execute_run',
    'execute_runs',
    'execute_runs_on_ray',
    'execute_runs_on_slurm',
    'runs_at_once',
    'source_of',
    'summarise',
    'write_report',
]
