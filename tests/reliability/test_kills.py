"""A study, killed at random until it is done (see killing.py, which does it for as long as one likes)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="it forks, and looks for processes"),
]


@pytest.mark.parametrize(("workers", "kills"), [(0, 100), (2, 20)])
def test_nothing_is_lost_and_nothing_is_there_twice(workers, kills) -> None:
    command = [sys.executable, "-m", "tests.reliability.killing", "--workers", str(workers), "--kills", str(kills)]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["driver"] + counts.get("cell", 0) >= kills


MUTANTS = {
    "what is there is made again": "import vbench.planning as p; p._Planner._decide = lambda *given: ('run', '')",
    "points are a step late": "import vbench.resume as r, tests.reliability.resuming as t; r.Points.load = t._late",
    "results are swept": "import vbench.records as r; "
    "r.Store.sweep = lambda self: [path.unlink() for path in list(self.folder.rglob('*.parquet'))[:1]]",
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_is_caught(mutant) -> None:
    code = f"{mutant}; from tests.reliability.killing import killed; from pathlib import Path; import tempfile; "
    code += "killed(Path(tempfile.mkdtemp()), 0, 40)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "AssertionError" in done.stderr
