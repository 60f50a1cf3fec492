"""Which plugins are installed and what their source is, found out without importing them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from vbench.beside import beside, file_of

__all__ = [
    *("GROUP", "PACKAGE", "brought", "contents", "digest", "entry_points", "fingerprint", "installed", "lacking"),
    *("relied_on", "sources", "version"),
]

GROUP = "vbench"
PACKAGE = Path(__file__).parent


@functools.cache
def version() -> str:
    """vbench's own version."""
    return installed("vbench") or "0+unknown"  # a source tree that was never installed


def entry_points() -> list[metadata.EntryPoint]:
    """Entry points of group ``vbench``, sorted, each once (a distribution may be seen twice on ``sys.path``).

    Plugin files of the grid at hand come last.
    """
    found = {(point.dist.name if point.dist else "", point.name, point.value): point for point in _points()}
    return [*(found[name] for name in sorted(found)), *(file.entry_point for file in beside().plugins)]


def _points() -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=GROUP)


def sources(module: str) -> list[Path]:
    """Every Python file of the top-level package (or module) that holds ``module`` (``pkg.mod:name`` too), sorted.

    None of a plugin file, whose name and bytes say all.

    Raises:
        ModuleNotFoundError: there is no such package.
    """
    if file_of(module):
        return []
    top = module.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise ModuleNotFoundError(f"no package named {top!r}")
    if spec.submodule_search_locations:
        return sorted(file for folder in spec.submodule_search_locations for file in _python_files(Path(folder)))
    return [Path(spec.origin)] if spec.origin else []


def _python_files(folder: Path) -> Iterator[Path]:
    return folder.rglob("*.py")


def contents(module: str, distribution: str = "") -> list[Path]:
    """Every file that a plugin brings: of the package that holds ``module``, and what was installed with it.

    Helpers and data files are among them; what Python makes of them (bytecode) is not.
    """
    roots = {file.parent for file in sources(module) if file.name == "__init__.py"}
    found = {file for root in roots for file in root.rglob("*")} if roots else set(sources(module))
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in (distribution and metadata.files(distribution)) or ():
            if not file.parts[0].endswith(".dist-info") and file.parts[0] != ".." and file.suffix != ".pth":
                found.add(Path(str(file.locate())))
    return sorted(
        file
        for file in found
        if file.is_file() and file.suffix != ".pyc" and not any(part.startswith(".") for part in file.parts[-2:])
    )


def digest(module: str, distribution: str = "") -> str:
    """SHA-256 of the files of a plugin: names and contents, not where they lie."""
    file = file_of(distribution) or file_of(module)
    return file.digest if file else _digest(module, distribution)


@functools.cache
def _digest(module: str, distribution: str) -> str:
    return digest_files(contents(module, distribution))


def relied_on(distribution: str) -> list[metadata.EntryPoint]:
    """The entry points of the other plugins that a distribution requires: their code is part of its own."""
    if file := file_of(distribution):
        names = file.imported()
        return [point for point in entry_points() if point.module.partition(".")[0] in names]
    return _required(distribution)


@functools.cache
def _required(distribution: str) -> list[metadata.EntryPoint]:
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    names = {_normal(found[0]) for line in lines if "extra ==" not in line and (found := _PROJECT.match(line))}
    return [point for point in entry_points() if point.dist and _normal(point.dist.name) in names]


def lacking(distribution: str, extra: str) -> str:
    """How to install what an optional extra of a distribution asks for; empty where all of it is there.

    Looked up anew at each call: what an extra brings may come and go while no plugin changes.
    """
    missing = [name for name, release in brought(distribution, extra) if not release]
    return f"needs {' and '.join(missing)}: pip install '{distribution}[{extra}]'" if missing else ""


def brought(distribution: str, extra: str) -> list[tuple[str, str]]:
    """What an optional extra of a distribution asks for, each with its version; empty where it is not installed."""
    if not extra:
        return []
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    marked = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    names = [found[0] for line in lines if marked.search(line) and (found := _PROJECT.match(line))]
    return [(name, installed(name)) for name in names]


def installed(distribution: str) -> str:
    """Its version; empty where it is not."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


_PROJECT = re.compile(r"[A-Za-z0-9._-]+")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def digest_files(files: Iterable[Path]) -> str:
    """SHA-256 of files by name and content."""
    total = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        total.update(f"{file.parent.name}/{file.name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def fingerprint() -> str:
    """Changes whenever the catalogue could: interpreter, installed plugins, and any of their files or vbench's own."""
    total = hashlib.sha256(f"{sys.version}\0{sys.prefix}\0{version()}".encode())
    files = list(_python_files(PACKAGE))
    for point in entry_points():
        total.update(f"{point.name}\0{point.value}\0{point.dist and point.dist.name}\0".encode())
        total.update(f"{point.dist and point.dist.version}\0".encode())
        files += sources(point.module)
    for file in sorted(files):
        stat = file.stat()
        total.update(f"{file}\0{stat.st_mtime_ns}\0{stat.st_size}\0".encode())
    return total.hexdigest()
