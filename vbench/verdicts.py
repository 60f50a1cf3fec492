"""What the judge found of the estimators of a study, kept beside its records.

A verdict is of one estimator with all its parameters, of the code that it was judged with, and of the judge's own: it
stands beside a number only where that number was made by the same code.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vbench.discovery import PACKAGE, digest_files
from vbench.grid.parameters import canonical
from vbench.store import replace

__all__ = ["UNTESTED", "JudgedEstimator", "beside", "estimator_of", "load_verdicts", "save_verdicts", "suite_digest"]

UNTESTED = "untested"


@dataclass(frozen=True)
class JudgedEstimator:
    """One verdict.

    Attributes:
        estimator: its name and all its parameters, as canonical JSON.
        code: digest of vbench's own code.
        plugin: digest of the plugin that it comes from; empty for vbench's own.
        suite: digest of the judge's code.
        verdict: ``PASS(5%)``, ``declared biased r = 0.87``, ``INCONCLUSIVE``, ``FAIL``.
    """

    estimator: str
    code: str
    plugin: str
    suite: str
    verdict: str


@functools.cache
def suite_digest() -> str:
    """SHA-256 of the judge's own files."""
    return digest_files(sorted((PACKAGE / "testing").rglob("*.py")))


def estimator_of(name: str, parameters: Mapping[str, Any]) -> str:
    """An estimator by its meaning, however it was written."""
    return canonical({"name": name, "parameters": dict(parameters)})


def load_verdicts(folder: Path) -> list[JudgedEstimator]:
    """Verdicts that stand in a study's folder; none where the file cannot be read."""
    try:
        return [JudgedEstimator(**entry) for entry in json.loads((folder / "verdicts.json").read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def save_verdicts(folder: Path, found: Iterable[JudgedEstimator]) -> None:
    """Add verdicts to those of a study; of one estimator by one code and one judge the latest stands."""
    kept = {(v.estimator, v.code, v.plugin, v.suite): v for v in [*load_verdicts(folder), *found]}
    text = json.dumps([asdict(verdict) for verdict in kept.values()], indent=1)
    replace(text.encode(), folder / "verdicts.json")


def beside(verdicts: Iterable[JudgedEstimator], spec: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """The latest verdict on the estimator of a cell, by the code that made the cell's numbers; else ``untested``."""
    part = spec.get("estimator")
    if not isinstance(part, Mapping):
        return UNTESTED
    wanted = estimator_of(part.get("name", ""), part.get("parameters", {}))
    plugins = {"", *(plugin.get("digest", "") for plugin in provenance.get("plugins", ()))}
    found = [v for v in verdicts if v.estimator == wanted and v.code == provenance.get("code") and v.plugin in plugins]
    return found[-1].verdict if found else UNTESTED
