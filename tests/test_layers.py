"""Imports go down only: the house of docs/design.md, section 2, held by walking the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vbench"

# bottom to top; a module may import its own line only from what stands before it
LAYERS: dict[str, list[str]] = {
    "L0": ["rng", "types", "sources", "catalogue", "beside", "discovery", "hookspecs", "grid"],
    "L1": ["bounds", "targets", "families", "dynamics", "model", "steps", "grey", "batches"],
    "L2": ["estimators", "oracles", "builtin"],
    "L3": ["listing", "registry"],
    "L4": [
        "store",
        "index",
        "verdicts",
        "attempts",
        "cells",
        "records",
        "claims",
        "assemble",
        "provenance",
        "checkpoints",
        "resume",
        "once",
        "kept",
        "continuing",
        "finished",
        "merging",
        "assignment",
        "course",
    ],
    "L5": ["optimizers", "measure", "training", "runner", "execute", "planning", "study"],
    "L6": ["report", "scaffold", "plot", "cli", "__main__"],
}
ORDER = {name: (level, place) for level, names in enumerate(LAYERS.values()) for place, name in enumerate(names)}
# apart from the house: the package's lazy face, the suite shipped to authors, and what pytest loads of it
APART = {"__init__", "testing", "pytest_plugin"}


def modules() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if unit(file) not in APART]


def unit(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    """Units of vbench that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "vbench":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("vbench."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vbench.")}
    return found


def violations(own: str, names: set[str]) -> list[str]:
    wrong = []
    for name in names - {own}:
        if name not in ORDER or ORDER[name] >= ORDER[own]:
            wrong.append(name)
    return sorted(wrong)


def test_every_module_has_a_layer() -> None:
    assert {unit(file) for file in modules()} == set(ORDER)


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down(file: Path) -> None:
    # the judge stands beside the house; only what a user sees may call it
    allowed_up = {"listing": {"registry", "execute"}, "report": {"testing"}}.get(unit(file), set())
    assert violations(unit(file), imported(file) - allowed_up) == []


def test_the_judge_does_not_know_the_accused() -> None:
    for file in (PACKAGE / "oracles").glob("*.py"):
        assert "estimators" not in imported(file), file


def test_the_judge_is_called_from_above_alone() -> None:
    callers = {str(file.relative_to(PACKAGE)) for file in modules() if "testing" in imported(file)}
    assert callers <= {"report/judgement.py"}
    for file in (PACKAGE / "testing").glob("*.py"):
        assert not imported(file) & {"estimators", "builtin", "report", "cli"}, file


def test_reports_see_records_alone() -> None:
    for file in [*(PACKAGE / "report").rglob("*.py"), PACKAGE / "plot.py"]:
        assert not imported(file) & {"model", "estimators", "runner", "measure"}, file


def test_only_training_warm_ups_refits_and_the_classifier_have_an_optimiser() -> None:
    holders = {str(f.relative_to(PACKAGE)) for f in modules() if "torch.optim" in f.read_text("utf-8")}
    assert holders <= {"optimizers.py", "measure/gradients.py", "measure/refit.py", "measure/samples/classifier.py"}


def test_a_violation_would_be_found() -> None:
    assert violations("bounds", {"runner"}) == ["runner"]
    assert violations("estimators", {"oracles"}) == ["oracles"]
    assert violations("runner", {"bounds", "grid"}) == []
