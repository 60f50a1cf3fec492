"""A study run again in a fresh folder, and held against its records by cell and metric."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

import vbench
from vbench.execute.logs import plain
from vbench.grid import GridError, read_grid
from vbench.listing import load_catalogue
from vbench.records import Outcome, Store, no_results
from vbench.report.console import watched

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Difference", "differences", "reproduce", "sources"]

Verdict = Literal["identical", "within", "different"]
_SHOWN: Final = 20
_MEASURED: Final = {"s", "1/s", "bytes"}  # units of what no two runs have in common
_ROW: Final = ("step", "split", "metric", "part")
_Values = dict[tuple[Any, ...], tuple[float, float]]  # value and standard error by step, split and part


class Difference(NamedTuple):
    """One metric of one cell, in both runs.

    Attributes:
        verdict: ``identical`` to the bit in every row; ``within``: rows that differ do so by less than the 95% interval
            of their difference; else ``different``.
        largest: difference of two values, of those that differ; NaN where a row or a status is missing.
    """

    cell: str
    metric: str
    verdict: Verdict
    largest: float = 0.0


def reproduce(
    study: Path, *, cells: int | None, into: Path | None, as_json: bool, threads: int | None, **settings: Any
) -> int:
    """Run a study's own grid again, all of it or so many cells, and say what came out otherwise; the exit code."""
    if none := no_results(study):
        raise GridError([none])
    grid = read_grid(study / "grid.yaml", load_catalogue)
    before = {key: o for key, o in Store(study).outcomes().items() if o.status in ("done", "diverged")}
    chosen = sorted(before)[:cells]  # keys are hashes: the first are a sample
    if not chosen:
        raise GridError([f"nothing has finished in {study}"])
    used = {outcome.provenance.get("environment", {}).get("threads") for outcome in before.values()}
    threads = threads or (used.pop() if len(used) == 1 else None) or 1
    console = Console(stderr=as_json)
    with tempfile.TemporaryDirectory(prefix="vbench-") as fresh:
        root = into or Path(fresh)
        if (root / grid.name).resolve() == study.resolve():
            raise GridError([f"{root} is where {study} is: --into another folder"])
        result = watched(grid, console, results=root, only=frozenset(chosen), threads=threads, **settings)
        after = {key: outcome for key, outcome in result.outcomes.items() if key in before}
        found = list(differences(before, after, vbench.load(study), vbench.load(result.folder)))
    changed = sources([before[key] for key in after], list(after.values()))
    absent = [key for key in chosen if key not in after]
    if as_json:
        rows = [difference._asdict() for difference in found]
        print(json.dumps({"cells": len(after), "absent": absent, "rows": _finite(rows), "sources": changed}, indent=2))
    else:
        _show(study, found, changed, absent, before, console)
    return 1 if absent or any(difference.verdict == "different" for difference in found) else 0


def differences(
    before: Mapping[str, Outcome], after: Mapping[str, Outcome], one: DataFrame, other: DataFrame
) -> Iterator[Difference]:
    """Every metric of every cell that is in both, timings and memory apart; ``status`` is one of them."""
    tables = [_rows(frame, after) for frame in (one, other)]
    for key in sorted(after):
        same = before[key].status == after[key].status
        yield Difference(key, "status", "identical" if same else "different", 0.0 if same else math.nan)
        mine, theirs = (table.get(key, {}) for table in tables)
        for metric in sorted(mine.keys() | theirs.keys()):
            yield Difference(key, metric, *_verdict(mine.get(metric, {}), theirs.get(metric, {})))


def _rows(frame: DataFrame, keys: Mapping[str, Any]) -> dict[str, dict[str, _Values]]:
    """Values and standard errors by cell, metric and row."""
    found: dict[str, dict[str, _Values]] = {}
    wanted = frame[frame["cell"].isin(keys)]
    columns = [wanted[name].tolist() for name in ("cell", *_ROW, "value", "std_error", "unit")]
    for cell, step, split, metric, part, value, error, unit in zip(*columns, strict=True):
        if not _MEASURED & set(str(unit).split()):
            found.setdefault(cell, {}).setdefault(metric, {})[step, split, part] = value, error
    return found


def _verdict(mine: _Values, theirs: _Values) -> tuple[Verdict, float]:
    if mine.keys() != theirs.keys():
        return "different", math.nan
    worst, largest = "identical", 0.0
    for row, (value, error) in mine.items():
        other, other_error = theirs[row]
        if value == other or (math.isnan(value) and math.isnan(other)):
            continue
        apart = abs(value - other)
        largest = apart if math.isnan(apart) or apart > largest else largest
        wide = 1.96 * math.hypot(error, other_error)
        if not apart <= wide:  # also where a value or an error is not known
            worst = "different"
        elif worst == "identical":
            worst = "within"
    return worst, largest  # type: ignore[return-value]


def sources(before: list[Outcome], after: list[Outcome]) -> list[dict[str, str]]:
    """What the two runs come from, where that is not the same."""
    one, other = (_sources(outcomes) for outcomes in (before, after))
    names = sorted(one.keys() | other.keys())
    pairs = [(name, ", ".join(sorted(one.get(name, ()))), ", ".join(sorted(other.get(name, ())))) for name in names]
    return [{"what": name, "was": was, "is": now} for name, was, now in pairs if was != now]


def _sources(outcomes: list[Outcome]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for outcome in outcomes:
        provenance = outcome.provenance
        parts = {"vbench": provenance.get("version"), "code of vbench": str(provenance.get("code"))[:12]}
        for plugin in provenance.get("plugins", ()):
            parts |= {plugin["name"]: plugin["version"], f"code of {plugin['name']}": plugin["digest"][:12]}
        for name, value in (parts | provenance.get("environment", {})).items():
            found.setdefault(name, set()).add(str(value))
    return found


def _show(
    study: Path,
    found: list[Difference],
    changed: list[dict[str, str]],
    absent: list[str],
    before: Mapping[str, Outcome],
    console: Console,
) -> None:
    counts = {verdict: sum(d.verdict == verdict for d in found) for verdict in ("identical", "within", "different")}
    cells = len({difference.cell for difference in found})
    console.print()
    text = f"{study}: {cells} cell{'s' * (cells != 1)} run again, {len(found)} metrics of them: "
    text += f"{counts['identical']} identical to the bit, {counts['within']} within the 95% interval, "
    text += f"{counts['different']} different (timings and memory apart)"
    console.print(Text(text), soft_wrap=True)
    if absent:
        text = f"not run, cells: {len(absent)}; the grid beside the records, or the data, are not those that they had"
        console.print(Text(text), soft_wrap=True)
    if len(found) > counts["identical"]:
        console.print(_table(found))
    for difference in [d for d in found if d.verdict == "different"][:_SHOWN]:
        name = before[difference.cell].name
        text = f"different: {difference.metric}: {name}  {difference.cell[:8]}  by {difference.largest:.3g}"
        console.print(Text(plain(text)), soft_wrap=True)
    for source in changed:
        console.print(Text(plain(f"{source['what']}: was {source['was']}, is {source['is']}")), soft_wrap=True)
    if not changed:
        console.print("code, versions and environment are the same")


def _table(found: list[Difference]) -> Table:
    """By metric, those that are not all identical."""
    table = Table("metric", *(("identical", "within", "different", "largest difference")), box=None)
    for metric in dict.fromkeys(d.metric for d in found if d.verdict != "identical"):
        mine = [d for d in found if d.metric == metric]
        counts = [str(sum(d.verdict == verdict for d in mine)) for verdict in ("identical", "within", "different")]
        known = [d.largest for d in mine if not math.isnan(d.largest)]
        table.add_row(Text(plain(metric)), *counts, f"{max(known):.3g}" if known else "-")
    return table


def _finite(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON has no NaN."""
    return [row | {"largest": None if math.isnan(row["largest"]) else row["largest"]} for row in rows]
