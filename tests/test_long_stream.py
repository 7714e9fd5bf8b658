"""What would grow in 2000 frames shows in 400 (tests/long_stream.py runs the 2000)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent / 'long_stream.py'


@pytest.mark.slow
def test_memory_and_states_stay_as_they_are(tmp_path):
    # A process of its own: what other tests free would hide what this one keeps.
    program = (
        'import json, sys, torch; torch.set_num_threads(1); from pathlib import Path; '
        f'sys.path.insert(0, {str(SCRIPT.parent)!r}); import long_stream; '
        f'print(json.dumps(long_stream.long_run(Path({str(tmp_path)!r}), 400)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['frames'] == 400
    assert found['memory_growth'] < 0.02
    assert found['state_files'] <= 2
    # In units of work done in turn; wide, as a cache may be shared unevenly meanwhile.
    assert found['whole_growth'] < 0.3
    assert found['step_growth'] < 0.3
