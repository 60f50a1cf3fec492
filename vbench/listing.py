"""The catalogue of everything registered, kept on disk between calls so that no command loads torch to read a name."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import secrets
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import platformdirs

from vbench.beside import Beside, PluginFile, beside, use
from vbench.catalogue import Broken, Catalogue, Component, Kind, Parameter
from vbench.discovery import fingerprint
from vbench.grid import GridError, read_grid

__all__ = ["PluginError", "forget", "known_catalogue", "learn", "load_catalogue", "load_file", "study_catalogue"]


class PluginError(Exception):
    """Two plugins claim one name; the message names both distributions."""


def load_catalogue(here: Beside | None = None, *, strict: bool = True) -> Catalogue:
    """What is registered. Read from the user's cache while no plugin file has changed, else from the plugins.

    Args:
        here: what stands beside the grid that this process is at work on from now on; None: as before.
        strict: refuse to go on while two plugins claim one name.

    Raises:
        PluginError: two plugins claim one name.
    """
    if here is not None:
        use(here)
    catalogue = _cached() or _fresh()
    _known.clear()
    _known[beside().plugins] = catalogue
    if strict and catalogue.clashes:
        raise PluginError("; ".join(catalogue.clashes))
    return catalogue


_known: dict[tuple[PluginFile, ...], Catalogue] = {}


def known_catalogue() -> Catalogue:
    """What this process read last of the same plugin files, without a look at what may have changed since."""
    return _known.get(beside().plugins) or load_catalogue(strict=False)


def study_catalogue(study: Path) -> Catalogue:
    """As :func:`load_catalogue`, with the plugin files that a study's own grid names, as its folder keeps them."""
    load = functools.partial(load_catalogue, strict=False)
    use(Beside(str(study.absolute())))
    with contextlib.suppress(GridError):
        read_grid(study / "grid.yaml", load)
    return load()


def load_file(text: str) -> str:
    """Use one plugin file, by its path, in this process; the name that its components are listed under.

    Raises:
        GridError: it cannot be used; one line.
    """
    path = Path(text).absolute()
    try:
        file = PluginFile.read(str(path), path.parent)
    except ValueError as error:
        raise GridError([str(error)]) from None
    for broken in load_catalogue(Beside(str(path.parent), (file,)), strict=False).broken:
        if broken.distribution == file.name:
            raise GridError([f"{file.name}: {broken.reason}"])
    return file.name


def _file() -> Path | None:
    """Where the catalogue of exactly these plugins would be; None where a plugin's files cannot even be found."""
    try:
        return Path(platformdirs.user_cache_dir("vbench", appauthor=False)) / "catalogue" / f"{fingerprint()[:32]}.json"
    except (ImportError, OSError, ValueError):
        return None


def _cached() -> Catalogue | None:
    file = _file()
    try:
        return from_json(json.loads(file.read_text("utf-8"))) if file else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _fresh() -> Catalogue:
    file = _file()
    catalogue = _described(file.name if file else secrets.token_hex())
    if file and not catalogue.broken:  # a broken plugin may be mended by something outside its own files
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            for old in sorted(file.parent.glob("*.json"), key=os.path.getmtime)[:-8]:
                old.unlink()
            with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as out:
                json.dump(to_json(catalogue), out)
            Path(out.name).replace(file)
    return catalogue


@functools.lru_cache(maxsize=16)
def _described(name: str) -> Catalogue:
    """By a process of its own, since a plugin may end the one that imports it.

    Args:
        name: the same for the same plugins.
    """
    from vbench.execute.describing import described
    from vbench.registry import load_all

    if multiprocessing.parent_process() is None:  # a job's own process is there to be lost
        with contextlib.suppress(OSError):  # no process can be started
            if found := described(beside()):
                return found
    return load_all(()).catalogue()


def learn(components: Iterable[Component]) -> None:
    """Take these for all that is registered, where nothing is known yet: a job need not find out more."""
    known: dict[Kind, dict[str, Component]] = {}
    for component in components:
        known.setdefault(component.kind, {})[component.name] = component
    _known.setdefault(beside().plugins, Catalogue(known))


def forget() -> None:
    """Know nothing again, neither what was read nor what was learnt."""
    _known.clear()


def to_json(catalogue: Catalogue) -> dict[str, Any]:
    """Plain data that :func:`from_json` reads back."""
    return {
        "components": [asdict(component) for component in catalogue],
        "broken": [asdict(item) for item in catalogue.broken],
        "clashes": list(catalogue.clashes),
    }


def from_json(data: dict[str, Any]) -> Catalogue:
    """The inverse of :func:`to_json`."""
    components: dict[Any, dict[str, Component]] = {}
    for item in data["components"]:
        parameters = tuple(Parameter(**parameter) for parameter in item.pop("parameters"))
        component = Component(**item, parameters=parameters)
        components.setdefault(component.kind, {})[component.name] = component
    return Catalogue(components, tuple(Broken(**item) for item in data["broken"]), tuple(data["clashes"]))
