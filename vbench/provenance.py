"""Where a result comes from: the code of vbench's own layers and of every plugin used, and the environment."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vbench.catalogue import Catalogue
from vbench.discovery import PACKAGE, brought, digest, digest_files, relied_on, version
from vbench.grid import Choice

__all__ = ["code_digest", "code_modules", "environment", "provenance", "stale_reason"]

# what only shows results (L6) or only judges cannot change a number
_NOT_CODE = (
    "report",
    "plot.py",
    "sources.py",
    "testing",
    "cli",
    "planning.py",
    "continuing.py",
    "study.py",
    "listing.py",
    "verdicts.py",
    "merging.py",
    "finished.py",
    "__main__.py",
)


_NOT_OF_JOBS = ("scaffold", "templates", "pytest_plugin")


@functools.cache
def code_digest() -> str:
    """SHA-256 of vbench's layers L0 to L5."""
    return digest_files(_code_files())


def code_modules() -> list[str]:
    """The modules that the digest is of, those apart that running on other machines takes and a job never does."""
    names = [file.relative_to(PACKAGE).with_suffix("").parts for file in _code_files()]
    found = [".".join(("vbench", *parts)).removesuffix(".__init__") for parts in names if parts[0] not in _NOT_OF_JOBS]
    return [name for name in found if not name.startswith("vbench.execute")]


def _code_files() -> list[Path]:
    return [f for f in sorted(PACKAGE.rglob("*.py")) if f.relative_to(PACKAGE).parts[0] not in _NOT_CODE]


def plugins_of(choices: Iterable[Choice], catalogue: Catalogue) -> list[dict[str, str]]:
    """Name, version and source digest of each distribution that the components come from, vbench apart.

    What an extra brings that they need is among them, by its version alone.
    """
    found: dict[str, dict[str, str]] = {}
    for choice in choices:
        component = catalogue.get(choice.kind, choice.name)
        if component and component.distribution != "vbench" and component.distribution not in found:
            found[component.distribution] = _plugin(component.distribution, component.version, component.module)
            for point in relied_on(component.distribution):
                if point.dist and point.dist.name != "vbench":
                    found[point.dist.name] = _plugin(point.dist.name, point.dist.version, point.value)
        for name, release in brought(component.distribution, component.extra) if component else ():
            found[name] = {"name": name, "version": release, "digest": ""}  # no plugin: known by its version
    return [found[name] for name in sorted(found)]


def _plugin(name: str, version: str, module: str) -> dict[str, str]:
    return {"name": name, "version": version, "digest": digest(module, name)}


def provenance(choices: Iterable[Choice], catalogue: Catalogue) -> dict[str, Any]:
    """What stands beside a result and decides whether it is current: ``code`` and ``plugins``."""
    return {"code": code_digest(), "version": version(), "plugins": plugins_of(choices, catalogue)}


def environment(device: str) -> dict[str, Any]:
    """What bit-for-bit equality depends on: python, torch, CPU instruction set, threads, device, platform."""
    import torch

    cuda = torch.device(device).type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "platform": f"{sys.platform}-{platform.machine()}",
    }


def stale_reason(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Why a stored result no longer comes from the current code; empty where it does."""
    before = {plugin["name"]: plugin for plugin in stored.get("plugins", [])}
    for plugin in current["plugins"]:
        old = before.pop(plugin["name"], None)
        if old is None:
            return f"it was made without plugin {plugin['name']}"
        if old["version"] != plugin["version"]:
            return f"plugin {plugin['name']} was {old['version']}, is {plugin['version']}"
        if old["digest"] != plugin["digest"]:
            return f"the code of plugin {plugin['name']} has changed"
    if before:
        return f"it was made with plugin {', '.join(before)}"
    if stored.get("code") != current["code"]:
        return "vbench's own code has changed"
    return ""
