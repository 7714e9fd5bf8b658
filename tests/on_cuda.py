"""Checks on a GPU what the test suite checks on a CPU.

    python -m tests.on_cuda [--device cuda] [--json FILE]

The memory engine's gradients against plain autograd's, whole steps against the same on a CPU, what
a plan says against torch's allocator, every method's saved state, bf16. A line a check; exit code 1
where one fails, 2 where there is no such device. ``--device cpu`` tries the script itself.
"""

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path

import torch
from mmseg.utils import register_all_modules

from ecotta_seg.benchmark.memory_model import make_frame
from ecotta_seg.files.atomic_io import atomic_write
from ecotta_seg.memory import measure_peak, optimizer_tensors, storage_bytes
from ecotta_seg.memory.budget.plan import fastest_plan, leanest_plan
from ecotta_seg.memory.budget.planned_step import PlannedStep
from tests.inference.test_autocast import _ecotta
from tests.memory.engine.test_memory_engine import gradients_of
from tests.methods.test_every_method import METHODS, built
from tests.segmentors import build_segmentor, published_method, published_segmentor

PUBLISHED = ('acdc_ecotta.py', 'camvid_severe.py', 'camvid_severe_segformer_b0.py')
FRAME, PEAK_FRAME = (129, 193), (512, 1024)
_BUDGETS = ('1.25x', '1.0x')


def frame(size, device, dtype=torch.float32):
    """A frame of noise and its metainfo."""
    image, metas = make_frame(*size, device)
    return image.to(dtype), metas


def _away_from_the_start(method):
    """Where every difference is not 0, and the same on every device."""
    generator = torch.Generator().manual_seed(3)
    for parameter in method.adaptable_parameters().values():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data += 0.02 * noise.to(parameter.device, parameter.dtype)


def _gradients(config, device, dtype, plan=None, **options):
    method = published_method(config, **options).to(device, dtype)
    # Without the engine the method is the reference: torch's own autograd.
    method.lean = method.engine is not None
    _away_from_the_start(method)
    if plan is not None:
        chosen = plan(len(method.encoder.parts))
        method.planner.plan_for = lambda *_: PlannedStep(chosen, 0, 0, None)
    return gradients_of(method, *frame(FRAME, device, dtype))


def _error(found, expected):
    """The largest relative error of a tensor, in float64 on the CPU."""
    errors = []
    for name, value in expected.items():
        value, other = value.detach().cpu().double(), found[name].detach().cpu().double()
        errors.append(float((other - value).norm() / value.norm().clamp(min=1e-30)))
    return max(errors)


def check_gradients(config, dtype, device):
    """The engine's gradients and logits, by the fastest plan and by the leanest, are plain
    autograd's: in float64 but for rounding, in float32 as near to float64's as plain autograd's."""
    logits, expected = _gradients(config, device, dtype, memory_engine=False)
    limits, told = (1e-9, 1e-9), []
    if dtype == torch.float32:
        true_logits, truth = _gradients(config, device, torch.float64, memory_engine=False)
        own = _error(expected, truth), _error({'': logits}, {'': true_logits})
        limits, told = [3 * error for error in own], ['plain {:.1e} {:.1e}'.format(*own)]
        logits, expected = true_logits, truth
    leanest = lambda parts: leanest_plan(parts, in_place=False)  # noqa: E731
    for name, plan in (('fastest', fastest_plan), ('leanest', leanest)):
        ours, found = _gradients(config, device, dtype, plan, memory_engine=True)
        errors = _error(found, expected), _error({'': ours}, {'': logits})
        told.append('{} {:.1e} {:.1e}'.format(name, *errors))
        near = all(error < limit for error, limit in zip(errors, limits))
        _expect(near, f'gradients or logits differ: {", ".join(told)}')
    return ', '.join(told)


def check_steps(config, device):
    """Three steps in float64 end where they end on the CPU."""
    results = []
    for where in ('cpu', device):
        method = published_method(config).to(where, torch.float64)
        _away_from_the_start(method)
        for _ in range(3):
            logits = method.adapt(*frame(FRAME, where, torch.float64))
        _expect(method.last_step.updated, 'nothing was learned')
        results.append(dict(method.adaptable_parameters(), logits=logits))
    error = _error(results[1], results[0])
    _expect(error < 1e-8, f'parameters or logits differ by {error:.1e}')
    return f'{error:.1e}'


def check_peak(config, budget, device):
    """What the allocator sees of a step, beside what the plan says and what inference takes."""
    method = published_method(config, memory_budget=budget).to(device)
    image = frame(PEAK_FRAME, device)

    def step():
        with torch.no_grad():
            method.adapt(*image)

    stock = published_segmentor(config).to(device)

    def infer():
        with torch.no_grad():
            stock.encode_decode(*image)

    infer(), step()
    inference, peak = measure_peak(infer, device), measure_peak(step, device)
    peak += storage_bytes(optimizer_tensors(method.optimizer))
    planned = method.planner.plan_for(*image)
    _expect(method.last_step.updated, 'nothing was learned')
    told = dict(
        inference=inference, predicted_inference=planned.inference_bytes, peak=peak,
        predicted=planned.predicted_bytes, budget=planned.budget_bytes,
    )  # fmt: skip
    # On CUDA convolutions have workspaces, and blocks are rounded up.
    more = 1024 if torch.device(device).type == 'cpu' else 0.05 * planned.predicted_bytes
    _expect(peak < planned.predicted_bytes + more, f'{told}')
    text = ', '.join(f'{k} {v / 2**20:.1f}' for k, v in told.items() if v is not None)
    return f'{text} MiB: {peak / inference:.2f}x'


def check_method(name, kind, device):
    """Steps on the device are finite, and a saved state goes on there as the one it is of."""
    image, metas = frame((61, 93), device)
    # One on a model that is there, as a Runner has it, and one that is moved there as a whole.
    method = built(name, kind, build_segmentor(kind).to(device))
    fresh = built(name, kind, build_segmentor(kind)).to(device)
    for _ in range(3):
        method.adapt(image, metas)
    fresh.load_method_state(method.method_state())
    torch.manual_seed(5)
    logits = method.adapt(image, metas)
    torch.manual_seed(5)
    again = fresh.adapt(image, metas)
    tensors = method.learned_tensors()
    _expect(bool(logits.isfinite().all()), 'logits are not finite')
    _expect(all(t.isfinite().all() for t in tensors.values()), 'what is learned is not finite')
    _expect(all(t.device.type == image.device.type for t in tensors.values()), 'left the device')
    # Not bit for bit: the gradient of an interpolation is summed up in any order on CUDA.
    error = _error({'': again}, {'': logits})
    _expect(error < 1e-5, f'logits after loading differ by {error:.1e}')
    method.reset()
    return f'{error:.1e}'


def check_bf16(kind, device):
    """A step under autocast is near the one in float32."""
    steps = []
    for autocast in (None, 'bf16'):
        method = _ecotta(kind, autocast=autocast).to(device)
        steps.append(method.adapt(*frame((61, 93), device)).float())
    error = _error({'': steps[1]}, {'': steps[0]})
    _expect(0 < error < 0.15, f'logits differ by {error:.1e}, expected above 0 and below 0.15')
    return f'{error:.1e}'


def _expect(holds, what):
    if not holds:
        raise AssertionError(what)


def checks(device):
    """Names and functions."""
    for config in PUBLISHED:
        for dtype in (torch.float64, torch.float32):
            name = f'gradients, {config}, {str(dtype)[6:]}'
            yield name, lambda c=config, d=dtype: check_gradients(c, d, device)
    for config in PUBLISHED:
        yield f'steps, {config}', lambda c=config: check_steps(c, device)
    for config in PUBLISHED:
        for budget in (None, *_BUDGETS):
            name = f'peak, {config}, budget {budget}'
            yield name, lambda c=config, b=budget: check_peak(c, b, device)
    for kind in ('deeplab', 'segformer'):
        for name in sorted(METHODS):
            yield f'{name}, {kind}', lambda n=name, k=kind: check_method(n, k, device)
        yield f'bf16, {kind}', lambda k=kind: check_bf16(k, device)


def main(argv=None):
    """Runs the checks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--device', default='cuda', help='default: cuda')
    parser.add_argument('--only', default='', help='checks whose name holds this')
    parser.add_argument('--json', help='file for the results')
    args = parser.parse_args(argv)
    if torch.device(args.device).type == 'cuda' and not torch.cuda.is_available():
        print('torch finds no CUDA device here', file=sys.stderr)
        return 2
    # TF32 is torch's default for convolutions on CUDA: a thousandth, where 1e-6 is looked for.
    torch.backends.cudnn.allow_tf32 = False
    register_all_modules(init_default_scope=False)
    results = []
    for name, check in checks(args.device):
        if args.only not in name:
            continue
        start = time.perf_counter()
        try:
            told, ok = check(), True
        except Exception as error:
            told, ok = f'{type(error).__name__}: {error}', False
            traceback.print_exc()
        seconds = time.perf_counter() - start
        results.append(dict(name=name, ok=ok, told=told, seconds=round(seconds, 2)))
        print(f'{"ok" if ok else "FAILED":6} {name}: {told} ({seconds:.1f} s)', flush=True)
    failed = [r['name'] for r in results if not r['ok']]
    where = torch.cuda.get_device_name() if 'cuda' in args.device else 'cpu'
    print(
        f'{len(results) - len(failed)} of {len(results)} hold on {where}, torch {torch.__version__}'
    )
    if args.json:
        with atomic_write(Path(args.json)) as temporary:
            document = dict(device=where, torch=torch.__version__, checks=results)
            temporary.write_text(json.dumps(document, indent=2) + '\n', encoding='utf-8')
    return 1 if failed else 0


if __name__ == '__main__':
    # The figures in docs/memory.md are with cuBLAS's workspace so.
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    sys.exit(main())
