"""A compute budget on the command line."""

import json
import re

from tests.tools.conftest import error_of, run_tool


def test_a_compute_budget_on_the_command_line(project, tmp_path):
    arguments = ['test_tta', project.config, project.checkpoint, '--work-dir', tmp_path]
    message = error_of(run_tool(*arguments, '--compute-budget', '0.5x'))
    smallest, each = re.findall(r"'([0-9.]+x)'", message)
    assert 1 <= float(smallest[:-1]) < float(each[:-1])
    budget = (float(smallest[:-1]) + float(each[:-1])) / 2
    run = run_tool(*arguments, '--rounds', 1, '--compute-budget', f'{budget}x')
    assert run.returncode == 0, run.stderr
    document = json.loads((tmp_path / 'results.json').read_text())
    assert document['compute']['budget'] == budget
    assert document['compute']['operations_to_inference'] <= budget
    assert document['seconds_per_frame']['adaptation_mean'] > 0
    share = f'{document["compute"]["learned_share"]:.0%}'
    assert f'Compute budget {budget:g}x: learned from {share} of the frames' in run.stdout
