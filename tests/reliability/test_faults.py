"""Every fault of docs/reliability.md that has a check here: vbench holds, and each of its mutants is caught."""

from __future__ import annotations

import pytest

from tests.reliability import (  # noqa: F401
    claiming,
    code,
    growing,
    inputs,
    keeping,
    merging,
    processes,
    resuming,
    returns,
    surroundings,
)
from tests.reliability.harness import FAULTS, Fault, Mutant, of_mutants


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_holds(fault: Fault, tmp_path) -> None:
    fault.check(tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.long], ids=lambda fault: fault.name)
def test_it_holds_for_long(fault: Fault, tmp_path) -> None:
    fault.check(tmp_path, **fault.long)


@pytest.mark.parametrize(("fault", "mutant"), of_mutants())
def test_a_mutant_is_caught(fault: Fault, mutant: Mutant, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception)):
        fault.check(tmp_path)
