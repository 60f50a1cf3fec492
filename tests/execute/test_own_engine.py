"""The engine that docs/cluster.md shows, taken from there, passes the suite; wrong in one place, it fails."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.strangers import install
from vbench.registry import Registry, load_registry
from vbench.testing import Verdict, checks
from vbench.testing.verdict import run_checks

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups"),
    pytest.mark.timeout(600),
]

TEXT = (Path(__file__).parent.parent.parent / "docs" / "cluster.md").read_text("utf-8")
(SOURCE,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
DRIVEN = ("ctrl-c", "killed-driver", "serial-equal")


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Install the engine under a name, with a change; gives its checks."""
    monkeypatch.syspath_prepend(tmp_path)

    def made(name, *changes):
        source = SOURCE
        for old, new in changes:
            assert source.count(old) == 1
            source = source.replace(old, new)
        install(tmp_path, f"vbench-{name}", f"{source}\nimport tests.execute.lighter\n")
        importlib.invalidate_caches()
        registry = Registry()
        registry.add(importlib.import_module(f"vbench_{name}"), f"vbench-{name}", "1.0", name)
        assert registry.broken == []
        monkeypatch.setitem(load_registry().components["executor"], "pool", registry.get("executor", "pool"))
        return {check.name: check for check in checks("executor", "pool")}

    return made


def test_it_passes(pool):
    asked = pool("whole")
    found = list(run_checks(check for name, check in asked.items() if name not in DRIVEN))
    assert {result.verdict for result in found} == {Verdict.PASS}, found


@pytest.mark.slow
def test_it_passes_where_a_driver_is_stopped(pool):
    asked = pool("driven")
    found = list(run_checks(asked[name] for name in DRIVEN))
    assert {result.verdict for result in found} == {Verdict.PASS}, found


@pytest.mark.slow
def test_a_worker_that_outlives_its_driver_is_caught(pool):
    asked = pool("outlives", ("    threading.Thread(target=follow, daemon=True).start()\n", ""))
    assert asked["killed-driver"].run().verdict is Verdict.FAIL


@pytest.mark.slow
def test_a_dead_worker_that_is_taken_for_success_is_caught(pool):
    told = 'Ending("crashed", "its workers died", told=False)'
    asked = pool("swallows", ("if deaths[job.key] == 3:", "if True:"), (told, 'Ending("done")'))
    assert asked["killed-worker"].run().figure == "its job is told as done, and did not end"
