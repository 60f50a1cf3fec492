"""Faults, each with its check and with mutants of vbench that the check must refuse.

A check is a function of an empty folder that raises when vbench does not hold. It runs as it is, then once under every
mutant, where it must raise. ``long`` gives the arguments of its long version, behind the marker ``slow``. There too are
all mutants but the first of a check that trains several studies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Mutant = Callable[[pytest.MonkeyPatch], None]


class Fault(NamedTuple):
    name: str
    check: Callable[..., None]
    mutants: Mapping[str, Mutant]
    long: Mapping[str, Any]


FAULTS: list[Fault] = []
TRAINING = ("F1-going_on", "F6-two_runs", "F23-more_steps", "F36-late_owner")
"""Checks that train several studies, each time anew."""


def fault(number: str, mutants: Mapping[str, Mutant], **long: Any):
    """Register a check under the number of its fault in docs/reliability.md."""

    def register(check: Callable[..., None]) -> Callable[..., None]:
        assert mutants, "a check that no mutant fails shows nothing"
        FAULTS.append(Fault(f"{number}-{check.__name__}", check, mutants, long))
        return check

    return register


def instead(target: str, value: Any) -> Mutant:
    """The mutant in which ``target`` is ``value``."""
    return lambda patch: patch.setattr(target, value)


def of_mutants() -> list[Any]:
    assert {fault.name for fault in FAULTS} >= set(TRAINING)
    return [
        pytest.param(
            fault,
            mutant,
            id=f"{fault.name}-{name}",
            marks=[pytest.mark.slow] * (place > 0 and fault.name in TRAINING),
        )
        for fault in FAULTS
        for place, (name, mutant) in enumerate(fault.mutants.items())
    ]


def folder_of(path: Path, name: str) -> Path:
    made = path / name
    made.mkdir(parents=True)
    return made
