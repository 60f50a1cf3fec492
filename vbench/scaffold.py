"""A plugin package to start from: written from templates, right as it stands. Imports no torch."""

from __future__ import annotations

import keyword
import re
import shlex
from pathlib import Path
from string import Template

from vbench.catalogue import Catalogue, Kind
from vbench.discovery import PACKAGE

__all__ = ["ScaffoldError", "new_plugin", "next_commands"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40
_YAML = ("false", "null", "true")  # words that a grid would not read as names


class ScaffoldError(Exception):
    """No package can be written under that name or in that place; the message is one line for the user."""


def new_plugin(name: str, kind: Kind, folder: Path, catalogue: Catalogue) -> Path:
    """Write the package ``vbench-NAME``, which registers one component of that kind and name.

    Args:
        name: of the component; normalised as package names are.
        kind: of the component.
        folder: where the package's own folder is made.
        catalogue: what is registered already.

    Returns:
        The package's folder.

    Raises:
        ScaffoldError: the name cannot be used or is taken, or the folder is not empty or cannot be written.
    """
    name = _free(_normalised(name), kind, catalogue)
    project = folder / f"vbench-{name}"
    files = _rendered(name, kind)
    try:
        if project.exists() and any(project.iterdir()):
            raise ScaffoldError(f"{project} exists and is not empty: choose another name or --dir")
        for path, text in files.items():
            file = project / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
    except OSError as error:
        raise ScaffoldError(f"cannot write {project}: {error.strerror}") from error
    return project


def _normalised(name: str) -> str:
    found = re.sub(r"[-_.]+", "-", name).lower().removeprefix("vbench-")
    if not _NAME.fullmatch(found) or len(found) > _LONGEST:
        wanted = f"letters, digits and hyphens, a letter first, at most {_LONGEST} in all"
        raise ScaffoldError(f"{name!r} cannot name a plugin: expected {wanted}")
    if keyword.iskeyword(found) or found in _YAML:
        raise ScaffoldError(f"{name!r} cannot name a plugin: it is a word of Python or YAML, choose another")
    return found


def _free(name: str, kind: Kind, catalogue: Catalogue) -> str:
    owner = catalogue.get(kind, name)
    if owner:
        raise ScaffoldError(f"{kind} {name!r} is registered already, by {owner.distribution}: choose another name")
    distributions = {item.distribution for item in (*catalogue, *catalogue.broken)}
    if f"vbench-{name}" in distributions:
        raise ScaffoldError(f"a distribution vbench-{name} is installed already: choose another name")
    return name


def _rendered(name: str, kind: Kind) -> dict[str, str]:
    """Text by path in the package."""
    module, base = name.replace("-", "_"), kind.capitalize()
    camel = "".join(word.capitalize() for word in name.split("-"))
    own = camel if camel.endswith(base) and camel != base else camel + base
    words = {"name": name, "kind": kind, "Kind": base, "module": module, "class": own}
    sources = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        "grid.yaml": f"{kind}/grid.yaml",
        f"src/vbench_{module}/__init__.py": "init.py",
        f"src/vbench_{module}/{module}.py": f"{kind}/method.py",
        f"tests/test_{module}.py": f"{kind}/test.py",
    }
    return {
        path: Template((PACKAGE / "templates" / f"{source}.txt").read_text("utf-8")).substitute(words)
        for path, source in sources.items()
    }


def next_commands(project: Path, kind: Kind) -> list[str]:
    """What to type next, for a shell in the folder from which the package was written."""
    name = project.name.removeprefix("vbench-")
    return [
        f"pip install -e {shlex.quote(f'{project}[test]')}",
        f"vbench list {kind}",
        f"vbench check {kind}:{name}",
        f"vbench run {shlex.quote(str(project / 'grid.yaml'))}",
        f"pytest {shlex.quote(str(project))}",
    ]
