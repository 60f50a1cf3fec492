"""YAML 1.2 with a place for every value, and nothing of YAML that a grid does not need.

No tags, no merge keys, no dates, no octal by accident; aliases are bounded once written out.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from vbench.grid.positions import MAX_DEPTH, MAX_INT, MAX_VALUES, GridError, Node, Place, Problems

__all__ = ["MAX_BYTES", "decode", "read_yaml", "scalar"]

MAX_BYTES: Final = 1 << 20
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS: Final = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]+")
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def scalar(text: str) -> Any:
    """What a plain scalar means in YAML 1.2's core schema.

    >>> scalar("1e-3"), scalar("no"), scalar("0x1F"), scalar("~")
    (0.001, 'no', 31, None)

    Raises:
        ValueError: a number that is not finite, too long or ambiguous.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError(f"expected a number without leading zeros (or text in quotes), not {_short(text)}")
    if _INTEGER.fullmatch(text):
        if len(text) > 24 or abs(number := int(text, 0)) > MAX_INT:
            raise ValueError(f"expected an integer of at most 64 bits, not {_short(text)}")
        return number
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and abs(float(text)) == float("inf")):
        raise ValueError(f"expected a finite number, not {_short(text)}")
    return float(text) if _FLOAT.fullmatch(text) else text


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def decode(data: bytes, file: str) -> str:
    """The text of a grid file.

    Raises:
        GridError: too large or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise GridError([f"{file}: larger than {MAX_BYTES >> 20} MiB, too large for a grid"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object: the bytes that were decoded, a byte-order mark apart
        before = error.object[: error.start].decode("utf-8", "replace")
        bad = error.object[error.start]
        raise GridError([f"{_at(file, before)}: not UTF-8 (byte 0x{bad:02x})"]) from None


def _at(file: str, before: str) -> str:
    return f"{file}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def read_yaml(text: str, file: str, problems: Problems, place: Place | None = None) -> Node:
    """The one document in ``text``; a syntax error ends the reading, other problems are collected.

    Args:
        text: the document.
        file: the name to show in front of a position.
        problems: where problems go.
        place: the place of every value where the text is no file (``--set``).

    Raises:
        GridError: not YAML; earlier problems included.
    """
    bad = _UNPRINTABLE.search(text)
    builder = _Builder(file, problems, place)
    try:
        if bad:
            line, column = (int(part) - 1 for part in _at("", text[: bad.start()]).split(":")[1:])
            raise _SyntaxError(line, column, f"character U+{ord(bad[0]):04X} cannot stand in a grid")
        # The safe parser: the same places as the round-trip one, without comments and a third cheaper.
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except _SyntaxError as error:
        problems.add(builder.place(error.line, error.column), "", error.text)
    except MarkedYAMLError as error:
        mark, problem = _explain(error, text)
        where = (mark.line, mark.column) if mark else builder.last
        problems.add(builder.place(*where), "", problem)
    except Exception as error:  # the scanner lets ValueError and its like through on some escapes
        problems.add(builder.place(*builder.last), "", f"not YAML, from here on: {error}")
    else:
        return builder.root or Node(None, builder.place(0, 0))
    problems.finish()
    raise AssertionError("unreachable")


def _explain(error: MarkedYAMLError, text: str) -> tuple[Any, str]:
    """Where to look, and the parser's words with what to do for the mistakes that people make."""
    problem = " ".join((error.problem or error.context or "").split())
    mark, start = error.problem_mark or error.context_mark, error.context_mark
    opened = re.fullmatch(r"expected ',' or '([]}])', but got '(.*)'", problem)
    if opened and opened[2] == "[":
        outer = "[ ]" if opened[1] == "]" else "{ }"
        return mark, f'name[param=value] inside {outer} needs quotes, as in "iwae[k=5]", or a line of its own'
    if opened and start:
        return mark, f"not YAML: {problem} (for the bracket at {start.line + 1}:{start.column + 1})"
    if problem == "found unexpected end of stream" and start:
        return start, "not YAML: a quote that is never closed"
    rows = text.split("\n")
    indent = rows[mark.line][: mark.column] if mark and mark.line < len(rows) else ""
    if r"'\t'" in problem or ("\t" in indent and indent.isspace()):
        return mark, "not YAML: a tab where YAML wants spaces"
    return mark, f"not YAML: {problem}"


class _SyntaxError(Exception):
    def __init__(self, line: int, column: int, text: str) -> None:
        self.line, self.column, self.text = line, column, text
        super().__init__(text)


@dataclass
class _Frame:
    """A list or a mapping that is still open."""

    items: list[Node] | dict[str, Node]
    place: Place
    anchor: str | None
    tagged: bool
    pending: tuple[str, Place] | None = None
    count: int = 1
    height: int = 0
    broken: bool = False


class _Builder:
    """Nodes from parser events, without recursion: no depth of nesting can exhaust the stack."""

    def __init__(self, file: str, problems: Problems, place: Place | None) -> None:
        self.file, self.problems, self.fixed = file, problems, place
        self.root: Node | None = None
        self.last = (0, 0)
        self.documents = 0
        self.stack: list[_Frame] = []
        self.anchors: dict[str, Node | None] = {}

    def place(self, line: int, column: int) -> Place:
        return self.fixed or Place((0, line, column), f"{self.file}:{line + 1}:{column + 1}")

    def take(self, event: Any) -> None:
        self.last = (event.start_mark.line, event.start_mark.column)
        if isinstance(event, DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _SyntaxError(*self.last, "expected one document, found a second one")
            if event.version not in (None, (1, 2)):
                raise _SyntaxError(*self.last, "expected YAML 1.2")
        elif isinstance(event, CollectionEndEvent):
            frame = self.stack.pop()
            node = Node(frame.items, frame.place, None, frame.broken, frame.count, frame.height)
            if frame.tagged:
                node = Node(None, frame.place, broken=True)
            self._attach(node, frame.anchor)
        elif isinstance(event, NodeEvent):
            self._node(event)

    def _node(self, event: Any) -> None:
        place = self.place(*self.last)
        frame = self.stack[-1] if self.stack else None
        wants_key = frame is not None and isinstance(frame.items, dict) and frame.pending is None
        if isinstance(event, AliasEvent):
            node = self.anchors.get(event.anchor)
            if node is None or wants_key:
                known = event.anchor in self.anchors
                why = "cannot be used here" if wants_key or known else "is not defined"
                raise _SyntaxError(*self.last, f"alias *{event.anchor} {why}")
            self._attach(node)
            return
        tagged = event.tag is not None
        if tagged:
            self.problems.add(place, self._path(), "tags (!...) have no meaning in a grid")
        if isinstance(event, ScalarEvent):
            if tagged and not wants_key:
                self._attach(Node(None, place, broken=True), event.anchor)
                return
            text = unicodedata.normalize("NFC", event.value)
            if wants_key and frame is not None:
                frame.pending = (text, place)
            else:
                self._attach(self._scalar(text, event.implicit[0], place), event.anchor)
            return
        if wants_key:
            raise _SyntaxError(*self.last, "expected a word as a key")
        if len(self.stack) >= MAX_DEPTH:
            raise _SyntaxError(*self.last, f"nested deeper than {MAX_DEPTH} levels")
        if event.anchor:
            self.anchors[event.anchor] = None
        items: Any = {} if isinstance(event, MappingStartEvent) else []
        self.stack.append(_Frame(items, place, event.anchor, tagged))

    def _scalar(self, text: str, bare: bool, place: Place) -> Node:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self.problems.add(place, "", "expected text that is valid Unicode")
        else:
            try:
                return Node(scalar(text) if bare else text, place)
            except ValueError as error:
                self.problems.add(place, self._path(), str(error))
        return Node(None, place, broken=True)

    def _path(self) -> str:
        """The path of the value that is being read."""
        path = ""
        for frame in self.stack:
            if isinstance(frame.items, list):
                path += f"[{len(frame.items)}]"
            elif frame.pending:
                path += f".{frame.pending[0]}"
        return path.lstrip(".")

    def _attach(self, node: Node, anchor: str | None = None) -> None:
        if anchor:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        frame.count += node.count
        frame.height = max(frame.height, node.height + 1)
        if frame.count > MAX_VALUES:
            raise _SyntaxError(*self.last, f"more than {MAX_VALUES} values")
        if len(self.stack) + frame.height > MAX_DEPTH:  # an alias may hang a deep value below a deep one
            raise _SyntaxError(*self.last, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(frame.items, list):
            frame.items.append(node)
            frame.broken |= node.broken
            return
        name, place = frame.pending or ("", node.place)
        frame.pending = None
        if name == "<<":
            self.problems.add(place, f"{self._path()}.<<".lstrip("."), "merge keys (<<) are not part of YAML 1.2")
        elif name in frame.items:
            self.problems.add(place, f"{self._path()}.{name}".lstrip("."), "given twice")
        else:
            frame.items[name] = replace(node, key=place)
