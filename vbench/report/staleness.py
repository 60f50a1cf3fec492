"""Which stored results come from code that has since changed, found out without loading any plugin."""

from __future__ import annotations

from collections.abc import Iterable

from vbench.discovery import digest, entry_points
from vbench.provenance import stale_reason
from vbench.records import Outcome

__all__ = ["stale_reasons"]


def stale_reasons(outcomes: Iterable[Outcome], code: str) -> dict[str, str]:
    """For each cell's key why its result is stale; empty where it is current, or has no result (skipped).

    Args:
        outcomes: of a study.
        code: digest of vbench's own code.
    """
    installed = _installed()
    found = {}
    for outcome in outcomes:
        stored = outcome.provenance
        used = [installed[p["name"]] for p in stored.get("plugins", ()) if p["name"] in installed]
        none = outcome.status == "skipped" or not stored
        found[outcome.key] = "" if none else stale_reason(stored, {"code": code, "plugins": used})
    return found


def _installed() -> dict[str, dict[str, str]]:
    """Name, version and source digest of each distribution that plugs in."""
    found = {}
    for point in entry_points():
        if point.dist:
            name = point.dist.name
            found[name] = {"name": name, "version": point.dist.version, "digest": digest(point.module, name)}
    return found
