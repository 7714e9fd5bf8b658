"""mmseg's own, unmodified tools/test.py adapts too, with three lines in a config."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mmseg
import pytest
from mmengine.config import Config

from tests.tools.conftest import ROOT, run_tool


@pytest.mark.slow
def test_three_lines_give_the_same_numbers(project, tmp_path):
    tool = Path(mmseg.__file__).parent / '.mim' / 'tools' / 'test.py'
    if not tool.is_file():
        pytest.skip(f'the installed mmseg does not bring its tools/test.py ({tool})')
    run = run_tool('test_tta', project.config, project.checkpoint, '--work-dir', tmp_path / 'ours')
    assert run.returncode == 0, run.stderr
    ours = json.loads((tmp_path / 'ours' / 'results.json').read_text())

    # A plain mmseg config: model, data and metric, nothing of ours but what it tests on.
    full = Config.fromfile(project.config)
    keys = ('model', 'test_dataloader', 'test_evaluator', 'env_cfg', 'visualizer', 'randomness')
    plain = Config({key: full[key] for key in keys})
    plain.default_scope, plain.test_cfg = 'mmseg', dict(type='TestLoop')
    plain.dump(tmp_path / 'plain.py')
    adaptation = dict(full.adaptation.to_dict())
    three_lines = (
        "custom_imports = dict(imports=['ecotta_seg'])\n"
        "custom_hooks = [dict(type='EcoTTAHook')]\n"
        f'adaptation = {adaptation!r}\n'
    )
    (tmp_path / 'mine.py').write_text("_base_ = ['./plain.py']\n" + three_lines)
    mmseg_run = subprocess.run(
        [sys.executable, str(tool), str(tmp_path / 'mine.py'), str(project.checkpoint),
         '--work-dir', str(tmp_path / 'theirs')],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    assert mmseg_run.returncode == 0, mmseg_run.stderr[-2000:]
    # The same three lines under our tool, which adds what measures and reports.
    mine = run_tool(
        'test_tta', tmp_path / 'mine.py', project.checkpoint, '--work-dir', tmp_path / 'mine'
    )
    assert mine.returncode == 0, mine.stderr
    reported = json.loads((tmp_path / 'mine' / 'results.json').read_text())
    assert reported['rounds'] == ours['rounds'] and reported['source'] == ours['source']
    for entry in ours['rounds']:
        for name, scores in entry['conditions'].items():
            found = re.findall(
                rf'round{entry["round"]}/{name}/mIoU: ([\d.]+)', mmseg_run.stdout + mmseg_run.stderr
            )
            assert found and float(found[-1]) == pytest.approx(scores['mIoU'], abs=1e-3)
    changed = ours['rounds'][1]['conditions']['fog'] != ours['rounds'][0]['conditions']['fog']
    assert changed, 'without adaptation both rounds would be the same'
