"""What stands beside a grid: its folder, and plugins that are single Python files there. No torch.

A grid names such files (``plugins: [my_method.py]``), and from then on each is what an entry point is: found, loaded,
described and digested by the same code. Its bytes are read once and travel with the cells, so that every process and
machine runs what was read, whatever becomes of the file meanwhile.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.abc
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

__all__ = ["Beside", "PluginFile", "beside", "file_of", "use"]

_LARGEST: Final = 2**20
_NAME: Final = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*\.py")
_PREFIX: Final = "vbench_file_"


@dataclass(frozen=True)
class PluginFile:
    """A plugin that is one Python file.

    Attributes:
        name: as the grid has it; it stands where the name of a distribution does.
        path: where it was read, for tracebacks.
        content: its bytes.
    """

    name: str
    path: str
    content: bytes

    @classmethod
    def read(cls, text: str, folder: Path) -> PluginFile:
        """The file of this name in ``folder``, or of this absolute path.

        Raises:
            ValueError: there is none that can be used; says why in one line.
        """
        path, name = Path(text), cls.named(text)
        if not _NAME.fullmatch(name):
            raise ValueError(f"expected a Python file beside the grid, such as my_method.py, not {text!r}")
        path = folder / path
        try:
            if not path.is_file():
                raise ValueError(f"no such file: {path}")
            with path.open("rb") as stream:
                content = stream.read(_LARGEST + 1)
        except OSError as error:
            raise ValueError(f"cannot read {path} ({error.strerror})") from None
        if len(content) > _LARGEST:
            raise ValueError(f"{path} is larger than {_LARGEST} bytes")
        return cls(name, str(path.absolute()), content)

    @staticmethod
    def named(text: str) -> str:
        """The name of the file that a grid writes so."""
        return Path(text).name if Path(text).is_absolute() else text

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def module(self) -> str:
        """The module that it is imported as: another for other bytes."""
        return f"{_PREFIX}{re.sub('[^a-z0-9]', '_', Path(self.name).stem.lower())}_{self.digest[:16]}"

    @property
    def entry_point(self) -> metadata.EntryPoint:
        """As an installed package would have it; the version is the first digits of the digest."""
        (point,) = _FileDistribution(self).entry_points
        return point

    def imported(self) -> set[str]:
        """The top-level packages that it imports, wherever the import stands; none where it is no Python."""
        try:
            tree = ast.parse(self.content)
        except (SyntaxError, ValueError):
            return set()
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        return {name.partition(".")[0] for name in names}


class _FileDistribution(metadata.Distribution):
    """The metadata that a package of this one file would have."""

    def __init__(self, file: PluginFile) -> None:
        self.file = file

    def read_text(self, filename: str) -> str | None:
        told = {
            "METADATA": f"Metadata-Version: 2.1\nName: {self.file.name}\nVersion: {self.file.digest[:8]}\n",
            "entry_points.txt": f"[vbench]\n{self.file.module} = {self.file.module}\n",
        }
        return told.get(filename)

    def locate_file(self, path: object) -> Path:
        return Path(self.file.path).parent / str(path)


@dataclass(frozen=True)
class Beside:
    """What stands beside a grid.

    Attributes:
        folder: absolute; what a grid names is relative to it.
        plugins: the files that it names as plugins.
    """

    folder: str = ""
    plugins: tuple[PluginFile, ...] = ()


_current = Beside()


def beside() -> Beside:
    """What stands beside the grid that this process is at work on."""
    return _current


def use(what: Beside) -> None:
    """From here on this process works on a grid with this beside it."""
    global _current
    _current = what
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def file_of(name: str) -> PluginFile | None:
    """The plugin file of this name or module (``module:name`` too); None where there is none."""
    top = name.partition(":")[0]
    return next((file for file in _current.plugins if name == file.name or top == file.module), None)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of plugin files."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = file_of(fullname) if fullname.startswith(_PREFIX) else None
        return importlib.util.spec_from_file_location(fullname, file.path, loader=_Loader(file)) if file else None


class _Loader(importlib.abc.Loader):
    """Runs the bytes that were read, not those that the file may hold by now."""

    def __init__(self, file: PluginFile) -> None:
        self.file = file

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.file.content)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.file.content, self.file.path, "exec"), module.__dict__)  # noqa: S102
