"""What is registered, described by a process of its own: a plugin that ends, breaks or hangs the process that imports
it costs itself alone.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from vbench.beside import Beside, use
from vbench.catalogue import Broken, Catalogue
from vbench.discovery import entry_points
from vbench.execute.child import Report
from vbench.execute.jobs import Job, Limits
from vbench.execute.local import run_job
from vbench.listing import from_json, to_json
from vbench.registry import load_all

__all__ = ["describe", "described"]

_PATIENCE: Final = 300.0  # seconds for all of them


def described(here: Beside) -> Catalogue | None:
    """The catalogue; None where the process came to its end before any plugin was imported.

    Args:
        here: what stands beside the grid at hand.
    """
    deadly: dict[str, str] = {}
    while True:
        with tempfile.TemporaryDirectory(prefix="vbench-") as name:
            folder = Path(name)
            job = Job("plugins", (name, here, frozenset(deadly)))
            ending, _ = run_job(Limits(f"{__name__}:describe", folder, timeout=_PATIENCE), job)
            if ending.status == "done":
                found = from_json(json.loads((folder / "catalogue.json").read_text("utf-8")))
                return replace(found, broken=(*found.broken, *_broken(deadly)))
            if not (folder / "at").exists():
                return None
            deadly[(folder / "at").read_text("utf-8")] = f"importing it ended the process: {ending.reason}"


def _broken(deadly: Mapping[str, str]) -> list[Broken]:
    """Those of the entry points whose import ends a process."""
    points = [(point, point.dist) for point in entry_points() if point.value in deadly]
    return [
        Broken(dist.name if dist else point.value, dist.version if dist else "", point.name, deadly[point.value], True)
        for point, dist in points
    ]


def describe(payload: tuple[str, Beside, frozenset[str]], report: Report) -> str:
    """In the other process: import all but some, and write down which one is next, then what there is."""
    name, here, left_out = payload
    folder = Path(name)
    use(here)
    registry = load_all(left_out, lambda point: (folder / "at").write_text(point.value, "utf-8"))
    (folder / "catalogue.json").write_text(json.dumps(to_json(registry.catalogue())), "utf-8")
    return "done"
