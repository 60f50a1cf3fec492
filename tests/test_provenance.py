"""What the code digest is of, and that a job's code is what its server's digest says."""

from __future__ import annotations

import importlib
import sys

import pytest

from vbench import registry
from vbench.provenance import code_digest, code_modules


def test_every_module_of_the_digest_is_one_that_can_be_loaded() -> None:
    names = code_modules()
    assert {"vbench", "vbench.runner", "vbench.training", "vbench.estimators.iwae", "vbench.grid.settings"} < set(names)
    apart = ("vbench.cli", "vbench.report", "vbench.testing", "vbench.plot", "vbench.scaffold", "vbench.execute")
    assert not [name for name in names if name.startswith(apart)]
    assert all(importlib.import_module(name) for name in names)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """Do what the server does when it starts, where leaving is told."""
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)
    monkeypatch.setattr("atexit.register", lambda function: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.delitem(sys.modules, "vbench.execute.preloaded", raising=False)

    def loaded() -> list[int]:
        importlib.import_module("vbench.execute.preloaded")
        return left

    yield loaded
    sys.modules.pop("vbench.execute.preloaded", None)
    code_digest.cache_clear()


def test_the_server_stays_while_its_code_does(load) -> None:
    assert load() == []


def test_a_server_whose_code_changed_while_it_loaded_leaves(load, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter(["before", "after"])
    monkeypatch.setattr("vbench.provenance.digest_files", lambda files: next(digests))
    code_digest.cache_clear()
    assert load() == [1]


def test_a_job_loads_the_plugin_that_it_uses_and_no_other() -> None:
    pytest.importorskip("vbench_antithetic")
    pytest.importorskip("vbench_discrete")
    alone = registry.load_registry("vbench-antithetic")
    owners = {item.component.distribution for items in alone.components.values() for item in items.values()}
    assert owners == {"vbench", "vbench-antithetic"}
    assert {
        item.component.distribution
        for items in registry.load_registry("vbench").components.values()
        for item in items.values()
    } == {"vbench"}
