"""One HTML page of a study: it needs no network, loads nothing, and escapes every name in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vbench.report.contents import PUBLISHED_FIELDS, Contents, Shown, alt_text, doubted, parameters, printed, reads
from vbench.report.evidence import Evidence
from vbench.report.figures import panels
from vbench.report.figures.style import look, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Page", "build", "drawn", "generator", "told"]

_TEMPLATES: Final = Path(__file__).parent / "templates"
_FILTERS: Final = ("dataset", "encoder", "decoder", "prior", "train", "estimator", "seed", "status")


@dataclass(frozen=True)
class Page:
    """A page and its figures.

    Attributes:
        html: of the page.
        figures: the wide drawing of each figure, by its name.
    """

    html: str
    figures: dict[str, Figure]


def build(found: Contents, step: Callable[[str], None] = lambda what: None) -> Page:
    """Make the page of a study; the same records and code give the same bytes.

    Args:
        found: what it shows.
        step: called with what is being worked on.
    """
    figures, sections, evidence = {}, [], found.evidence
    for shown in found.shown:
        step(f"drawing {shown.chart.title}")
        figures[shown.chart.name] = drawn(shown, evidence, panels.WIDE)
        sections.append(_section(shown, evidence, figures[shown.chart.name], drawn(shown, evidence, 1)))
    return Page(_rendered(found, sections), figures)


def drawn(shown: Shown, evidence: Evidence, columns: int) -> Figure:
    """A figure of its own, known to no notebook."""
    from matplotlib.figure import Figure

    figure = Figure()
    with look():
        shown.chart.draw(figure, evidence, shown.table, columns)
    return figure


def generator() -> str:
    """Which code makes a page: two pages of one generator and the same records are equal to the byte."""
    import platform

    import matplotlib as mpl

    from vbench.discovery import PACKAGE, digest_files, version

    files = [file for file in sorted(PACKAGE.rglob("*")) if file.suffix in (".py", ".html", ".css", ".js")]
    return (
        f"vbench {version()} ({digest_files(files)[:12]}), matplotlib {mpl.__version__}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )


def _section(shown: Shown, evidence: Evidence, wide: Figure, narrow: Figure) -> dict[str, Any]:
    chart = shown.chart
    return {
        **{
            "name": chart.name,
            "title": chart.title,
            "shows": chart.shows,
            "reads": " ".join([parameters(shown.table, evidence), reads(shown.table), doubted(shown.table, evidence)]),
        },
        **{"alt": alt_text(shown, evidence), "wide": _address(wide), "narrow": _address(narrow)},
        **{"rows": shown.rows, "columns": shown.columns},
    }


def _address(figure: Figure) -> str:
    """The picture itself as an address: no name in it can become part of the page."""
    svg = save(figure, "svg", clear=True)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _rendered(found: Contents, sections: list[dict[str, Any]]) -> str:
    import jinja2
    from markupsafe import Markup

    evidence = found.evidence
    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined
    )
    style, script = ((_TEMPLATES / name).read_text("utf-8") for name in ("page.css", "page.js"))
    columns = found.cell_columns
    filters = [
        {"name": name, "column": columns.index(name), "values": sorted({cell[name] for cell in found.cells})}
        for name in _FILTERS
        if name in columns and len({cell[name] for cell in found.cells}) > 1
    ]
    page: str = environment.get_template("page.html").render(
        name=evidence.name,
        generator=generator(),
        style=Markup(style),  # noqa: S704 - the package's own file
        script=Markup(script),  # noqa: S704 - the package's own file
        style_hash=_hash(style),
        script_hash=_hash(script),
        island=_island(found),
        exact=lambda value: "" if value is None else repr(value),
        shown=printed,
        counts=sorted(evidence.counts().items()),
        latest=max((cell["started"] for cell in found.cells), default=""),
        stale=sorted(Counter(filter(None, evidence.cells["stale"])).items()),
        damaged=evidence.damaged,
        common=evidence.common,
        panels=any(line["panel"] for line in found.summary),
        headlines=found.summary[0]["titles"] if found.summary else [],
        summary=found.summary,
        published=found.published,
        figures=sections,
        missing=found.missing,
        cells=found.cells,
        cell_columns=columns,
        numeric=found.numeric,
        filters=filters,
    )
    return page


def told(found: Contents) -> list[list[str]]:
    """What a page says of each published value, as texts, and which cells it says stand beside it."""
    return [[value[name] for name in (*PUBLISHED_FIELDS, "setting", "cells", "why")] for value in found.published]


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _island(found: Contents) -> Any:
    """Every number with where it comes from, as JSON that no HTML parser can leave."""
    from markupsafe import Markup

    data = {"study": found.evidence.name, "combinations": found.groups, "numbers": found.numbers}
    if found.published:
        data["published"] = told(found)
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - holds none of < > &
