"""BibTeX of what a study used: vbench itself, then every method and dataset by the source in its docstring."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vbench.catalogue import KINDS, Catalogue, Kind
from vbench.discovery import version
from vbench.execute.logs import plain
from vbench.grid import GridError
from vbench.grid.choices import parse_text
from vbench.listing import load_catalogue, study_catalogue
from vbench.records import Outcome, Store, no_results
from vbench.sources import VBENCH, SourceError, Work, bibtex, keyed, parse_source

__all__ = ["bibliography", "cite", "used"]

Used = tuple[Kind, str]


def cite(study: Path | None) -> int:
    """Write BibTeX to standard output, and to standard error what has no source to cite; returns the exit code."""
    names: set[Used] = set()
    catalogue = load_catalogue(strict=False)
    if study is not None:
        if none := no_results(study):
            raise GridError([none])
        catalogue = study_catalogue(study)
        stores = Store(study), Store(study / "references")
        names = used(outcome for kept in stores for outcome in kept.outcomes().values())
    entries, warnings = bibliography(names, catalogue)
    print("\n\n".join(entries))
    for warning in warnings:
        print(plain(f"vbench cite: {warning}"), file=sys.stderr)
    return 0


def used(outcomes: Iterable[Outcome]) -> set[Used]:
    """Kind and name of every component that ran, those that it was measured by among them."""
    return {name for outcome in outcomes if outcome.status != "skipped" for name in _of(outcome.spec)}


def _of(spec: Mapping[str, Any]) -> Iterator[Used]:
    for kind in KINDS:
        if name := (spec.get(kind) or {}).get("name"):
            yield kind, name
    measure = spec.get("measure") or {}
    gradients = measure.get("gradients") or {}
    texts = [
        (measure.get("log_likelihood") or {}).get("method"),
        (gradients.get("reference") or {}).get("estimator"),
        gradients.get("target"),
    ]
    for text in texts:
        if text and text not in ("evidence", "bound"):
            yield "estimator", parse_text(text)[0]


def bibliography(names: Iterable[Used], catalogue: Catalogue) -> tuple[list[str], list[str]]:
    """The entries, vbench's own first, and a line for every component that cannot be cited."""
    works: list[tuple[Work, str]] = []
    warnings = []
    for kind, name in sorted(names):
        component = catalogue.get(kind, name)
        if component is None:
            warnings.append(f"{kind}:{name} is not installed here: its source is not known")
            continue
        try:
            works += [(work, f"{kind}:{name}") for work in parse_source(component.source)]
        except SourceError as error:
            warnings.append(f"{kind}:{name} cannot be cited: {error}")
    itself = bibtex("vbench", VBENCH, corporate=True, version=version(), note="Software, MIT licence")
    entries = [itself]
    for key, work in keyed(work for work, _ in works).items():
        users = dict.fromkeys(user for found, user in works if found.names & work.names)
        entries.append(bibtex(key, work, [", ".join(users)]))
    return entries, warnings
