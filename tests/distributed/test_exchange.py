import importlib.util
from pathlib import Path

import torch
import torch.distributed as dist

_spec = importlib.util.spec_from_file_location(
    'processes', Path(__file__).with_name('processes.py')
)
processes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(processes)


def averages(folder):
    dist.init_process_group('gloo')
    from ecotta_seg.distributed import average_tensors, end_launch

    rank = dist.get_rank()
    results = {}
    for name, weights in {
        'even': (1, 1),
        'weighted': (1, 3),
        'one': (0, 1),
        'none': (0, 0),
    }.items():
        tensors = [torch.full((2, 3), 1.0 + rank), torch.tensor(10.0 * rank)]
        if name == 'one' and rank == 0:
            tensors[0][0, 0] = float('nan')
        total = average_tensors(tensors, weights[rank])
        results[name] = [total, tensors[0], tensors[1]]
    torch.save(results, folder / f'{rank}.pth')
    end_launch()


def test_all_get_the_weighted_mean_of_all(tmp_path):
    processes.in_two(averages, tmp_path, tmp_path)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    for name, mean, scalar in (('even', 1.5, 5.0), ('weighted', 1.75, 7.5), ('one', 2.0, 10.0)):
        for found in (first[name], second[name]):
            assert torch.equal(found[1], torch.full((2, 3), mean))
            assert float(found[2]) == scalar
    assert [first[name][0] for name in first] == [2, 4, 1, 0]
    # Nobody counts: each keeps its own.
    assert float(first['none'][1][0, 0]) == 1 and float(second['none'][1][0, 0]) == 2
