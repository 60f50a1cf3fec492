"""What a written page says, read back from its HTML."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final

__all__ = ["PageError", "Written", "read_page"]

_VOID: Final = ("meta", "source", "img", "input", "link", "br", "circle", "!doctype")


class PageError(ValueError):
    """A file that is no page of vbench; the message is one line."""


@dataclass
class Written:
    """A page's numbers.

    Attributes:
        generator: the code that made it.
        combinations, numbers: of its list of numbers.
        published: what its list says of each published value.
        data: every ``<data>``: its attributes and its text.
        heads, cells: of its table of cells, by the cell's key.
    """

    generator: str = ""
    combinations: list[dict[str, str]] = field(default_factory=list)
    numbers: list[dict[str, Any]] = field(default_factory=list)
    published: list[list[str]] = field(default_factory=list)
    data: list[tuple[dict[str, str], str]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    cells: dict[str, list[str]] = field(default_factory=dict)


def read_page(html: str) -> Written:
    """Read a page.

    Raises:
        PageError: it is no page of vbench, or its list of numbers is not JSON.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    try:
        island = json.loads(reader.island)
        reader.page.combinations, reader.page.numbers = list(island["combinations"]), list(island["numbers"])
        reader.page.published = [list(value) for value in island.get("published", [])]
    except (ValueError, KeyError, TypeError):
        raise PageError("it holds no list of numbers that can be read") from None
    return reader.page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page, self.island = Written(), ""
        self._open: list[str] = []
        self._row: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag not in _VOID:
            self._open.append(f"#{given['id']}" if given.get("id") in ("numbers", "cell-table") else tag)
        if tag == "meta" and given.get("name") == "generator":
            self.page.generator = given.get("content", "")
        elif tag == "data":
            self.page.data.append((given, ""))
        elif tag == "tr":
            self._row = self.page.cells.setdefault(given["data-cell"], []) if "data-cell" in given else None
        elif tag == "td" and self._row is not None:
            self._row.append("")
        elif tag == "th" and "#cell-table" in self._open:
            self.page.heads.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and tag not in _VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "#numbers":
            self.island += data
        elif inside == "data":
            given, text = self.page.data.pop()
            self.page.data.append((given, text + data))
        elif inside == "td" and self._row is not None:
            self._row[-1] += data
        elif inside == "th" and "#cell-table" in self._open:
            self.page.heads[-1] += data
