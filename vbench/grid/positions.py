"""What a grid says and where it says it: values with their places, and the errors that name both."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, Final

__all__ = [
    "GridError",
    "Node",
    "Place",
    "Problems",
    "dump",
    "from_python",
    "nearest",
    "one_line",
    "plain",
    "put",
    "quoted",
]

MAX_DEPTH: Final = 50
MAX_VALUES: Final = 50_000
MAX_INT: Final = 2**63 - 1  # what a column of the records holds


class GridError(Exception):
    """A grid, a filter or a name that cannot be used.

    Attributes:
        lines: one per problem, ``grid.yaml:7:5: train.stepz: unknown key (did you mean 'steps'?)``.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))

    def __reduce__(self) -> tuple[type[GridError], tuple[list[str]]]:
        return type(self), (self.lines,)


@dataclass(frozen=True)
class Place:
    """Where something was written: ``text`` for the reader, ``order`` to sort by."""

    order: tuple[int, int, int] = (0, 0, 0)
    text: str = ""


@dataclass(frozen=True)
class Node:
    """A value with its place.

    Attributes:
        value: a scalar, a list of nodes or a mapping of names to nodes.
        place: where the value starts.
        key: where its key starts, for a value in a mapping.
        broken: the value was already reported, so that nobody reports it again.
        count: values in it, aliases written out.
        height: levels below it.
    """

    value: Any
    place: Place
    key: Place | None = None
    broken: bool = False
    count: int = field(default=1, compare=False)
    height: int = field(default=0, compare=False)

    @property
    def at(self) -> Place:
        """The key's place where there is one, else the value's."""
        return self.key or self.place

    @property
    def sound(self) -> bool:
        """Whether nothing in it is broken."""
        children = self.value.values() if isinstance(self.value, dict) else self.value
        inner = children if isinstance(self.value, list | dict) else ()
        return not self.broken and all(child.sound for child in inner)


class Problems:
    """Collects every problem of a grid, so that one reading reports them all."""

    def __init__(self) -> None:
        self._found: dict[str, Place] = {}

    def add(self, place: Place, path: str, text: str) -> None:
        """Report ``text`` about ``path`` (empty for the whole grid)."""
        line = ": ".join(one_line(part) for part in (place.text, path, text) if part)
        self._found.setdefault(line, place)

    def __len__(self) -> int:
        return len(self._found)

    def finish(self) -> None:
        """Raise what was found, in the order of the file."""
        if self._found:
            raise GridError(sorted(self._found, key=lambda line: self._found[line].order))


def one_line(text: str) -> str:
    """What a user wrote, safe to print: no line breaks, no terminal escapes, no end to it."""
    text = text if len(text) <= 500 else text[:497] + "..."
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(name: str, valid: Iterable[str]) -> str:
    """`` (did you mean 'steps'?)``, or nothing when no valid name is near."""
    names = {word.lower(): word for word in valid}
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return f" (did you mean '{names[close[0]]}'?)" if close else ""


def plain(node: Node) -> Any:
    """The value without its places."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    return [plain(child) for child in node.value] if isinstance(node.value, list) else node.value


def from_python(value: Any, where: str, problems: Problems) -> Node:
    """Nodes from a Python mapping, where the path of a key takes the place of a position."""
    seen = 0

    def convert(value: Any, path: str, depth: int) -> Node:
        nonlocal seen
        seen += 1
        place = Place((0, 0, seen), where)
        if depth > MAX_DEPTH or seen > MAX_VALUES:
            raise GridError([": ".join(one_line(part) for part in (where, path, _too_much(depth)) if part)])
        if hasattr(value, "tolist"):  # arrays and their scalars, without importing numpy
            value = value.tolist()
        if isinstance(value, Mapping):
            children: dict[str, Node] = {}
            for key, child in value.items():
                name = unicodedata.normalize("NFC", str(key))
                if not isinstance(key, str):
                    problems.add(place, path, f"expected text as a key, not {key!r}")
                elif name in children:
                    problems.add(place, f"{path}.{name}".lstrip("."), "given twice")
                else:
                    node = convert(child, f"{path}.{name}".lstrip("."), depth + 1)
                    children[name] = replace(node, key=node.place)
            return Node(children, place)
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            items = [convert(child, f"{path}[{i}]", depth + 1) for i, child in enumerate(value)]
            return Node(items, place, broken=any(item.broken for item in items))
        try:
            return Node(_scalar(value), place)
        except ValueError as error:
            problems.add(place, path, str(error))
            return Node(None, place, broken=True)

    return convert(value, "", 0)


def _too_much(depth: int) -> str:
    return f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_VALUES} values"


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("expected text that is valid Unicode")
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Integral):
        if abs(int(value)) > MAX_INT:
            raise ValueError("expected an integer of at most 64 bits")
        return int(value)
    if isinstance(value, Real):
        if not abs(float(value)) < float("inf"):
            raise ValueError(f"expected a finite number, not {float(value)!r}")
        return float(value)
    raise ValueError(f"expected a number, text, a truth value, None, a list or a mapping, not {value!r:.40}")


def put(root: Node, path: Sequence[str], value: Node, problems: Problems, done: str = "") -> Node:
    """The tree with ``value`` at ``path``; what stands on the way is made where it is missing."""
    if not path:
        return replace(value, key=value.place)
    here = f"{done}.{path[0]}".lstrip(".")
    if root.value is None:
        root = replace(root, value={})
    if not isinstance(root.value, dict):
        problems.add(value.place, here, f"{done or 'the grid'} holds no keys to set")
        return root
    child = root.value.get(path[0]) or Node(None, value.place, value.place)
    return replace(root, value=root.value | {path[0]: put(child, path[1:], value, problems, here)})


_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*")
_WORDS = frozenset({"null", "true", "false"})


def quoted(text: str) -> str:
    """Text bare where it reads back as the same text, else in double quotes (JSON and YAML read both)."""
    if _BARE.fullmatch(text) and text.lower() not in _WORDS:
        return text
    shown = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in shown)


def dump(root: Node) -> str:
    """The grid as YAML, for results whose grid did not come from a file as it stands."""

    def flow(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{quoted(key)}: {flow(child)}" for key, child in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(flow, value)) + "]"
        return quoted(value) if isinstance(value, str) else json.dumps(value)

    lines = []
    for key, value in plain(root).items():
        if isinstance(value, list) and value:
            lines += [f"{quoted(key)}:", *(f"  - {flow(item)}" for item in value)]
        elif isinstance(value, dict) and value:
            lines += [f"{quoted(key)}:", *(f"  {quoted(name)}: {flow(item)}" for name, item in value.items())]
        else:
            lines.append(f"{quoted(key)}: {flow(value)}")
    return "\n".join(lines) + "\n"
