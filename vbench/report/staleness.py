"""Which stored results come from code that has since changed, found out without loading any plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vbench.discovery import digest, entry_points, installed
from vbench.provenance import stale_reason
from vbench.records import Outcome

__all__ = ["stale_reasons"]


def stale_reasons(outcomes: Iterable[Outcome], code: str) -> dict[str, str]:
    """For each cell's key why its result is stale; empty where it is current, or has no result (skipped).

    Args:
        outcomes: of a study.
        code: digest of vbench's own code.
    """
    plugins = _plugins()
    found = {}
    for outcome in outcomes:
        stored = outcome.provenance
        used = [plugins.get(p["name"]) or _brought(p) for p in stored.get("plugins", ())]
        none = outcome.status == "skipped" or not stored
        found[outcome.key] = (
            "" if none else stale_reason(stored, {"code": code, "plugins": [each for each in used if each]})
        )
    return found


def _brought(plugin: Mapping[str, str]) -> dict[str, str] | None:
    """What an extra has brought as it is now; None of a plugin that is gone, or where it is no longer there."""
    release = "" if plugin["digest"] else installed(plugin["name"])
    return {**plugin, "version": release} if release else None


def _plugins() -> dict[str, dict[str, str]]:
    """Name, version and source digest of each distribution that plugs in."""
    found = {}
    for point in entry_points():
        if point.dist:
            name = point.dist.name
            found[name] = {"name": name, "version": point.dist.version, "digest": digest(point.module, name)}
    return found
