"""``vbench report``: write a study's page and figures, or hold a written page against the records."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

__all__ = ["FORMATS", "check", "report"]

FORMATS: Final = ("svg", "pdf", "png")
_PAGE: Final = "index.html"


def report(study: Path, out: Path | None = None, formats: Sequence[str] = ("svg",)) -> int:
    """Write ``index.html`` and ``figures/`` into a folder, ``<study>/report`` by default; returns the exit code."""
    from vbench.report.contents import contents
    from vbench.report.evidence import read_evidence
    from vbench.report.figures.style import save
    from vbench.report.page import build
    from vbench.store import replace

    folder = out or study / "report"
    try:
        with _steps() as step:
            evidence = read_evidence(study)
            folder.mkdir(parents=True, exist_ok=True)  # what cannot be written is told before the work
            found = contents(evidence, step)
            page = build(found, step)
            replace(page.html.encode(), folder / _PAGE)
            for name, figure in page.figures.items():
                for kind in formats:
                    step(f"{name}.{kind}")
                    replace(save(figure, kind), folder / "figures" / f"{name}.{kind}")
    except FileNotFoundError as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(f"{error.filename or folder}: {error.strerror}; --out DIR writes elsewhere")
    console = Console()
    drawn, size = len(page.figures), len(page.html.encode()) / 1e6
    console.print(Text(f"{folder / _PAGE}   {drawn} figures, {len(found.numbers)} numbers, {size:.1f} MB"))
    for title, reason in found.missing:
        console.print(Text(f"not shown: {title}: {reason}"), style="dim", soft_wrap=True)
    return 0


def check(study: Path, out: Path | None = None) -> int:
    """Compute every number of the written page again from the records; returns the exit code, 1 where one differs."""
    from vbench.report.evidence import read_evidence
    from vbench.report.reader import PageError, read_page
    from vbench.report.recount import differences

    file = (out or study / "report") / _PAGE
    try:
        with _steps() as step:
            evidence = read_evidence(study)
            html = file.read_text("utf-8")
            numbers = len(read_page(html).numbers)
            found = differences(html, evidence, step)
    except FileNotFoundError as error:
        missing = f"no page {file}: write it first, vbench report {study}"
        return _refused(missing if error.filename else str(error))
    except (OSError, UnicodeDecodeError, PageError) as error:
        return _refused(f"{file}: {error}")
    for difference in found:
        print(difference)
    print(f"{file}: {len(found)} differences in {numbers} numbers")
    return 1 if found else 0


def _refused(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """Says on a terminal what is being worked on."""
    with Console(stderr=True).status("reading the records") as status:
        yield lambda what: status.update(Text(what))
