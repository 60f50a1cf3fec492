"""Two models on the same data, datum by datum: the differences vary far less than the values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from vbench.records import Store, load
from vbench.report import trust
from vbench.report.comparison_table import printed
from vbench.report.ends import lost
from vbench.report.evidence import short_names
from vbench.report.intervals import ALPHA, holm
from vbench.report.selection import ComparisonError, unknown
from vbench.report.summary import AXES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

__all__ = ["COLUMNS", "notes", "paired_differences", "show"]

COLUMNS: Final = (
    *(*AXES, "metric", "split", "baseline", "value", "baseline_value", "estimate", "low", "high", "std_error"),
    *("data", "seeds", "n_ok", "n_total", "survivors", "between_sd", "p", "p_holm", "verdict", "remarks"),
)
_MODEL: Final = AXES[1:]
_LEAST_P: Final = 1e-6  # that is printed in full
_HEAD: Final = ("model", "value", "difference [95%]", "p", "verdict", "seeds", "data")
_HOW: Final = ("measure.data", "measure.log_likelihood.", "measure.ais.")  # these values are measured by


def paired_differences(study: str | Path, metric: str, baseline: str, *, split: str | None = None) -> DataFrame:
    r"""Every model of a study against one of them on the same data, by its value for each datum.

    .. math:: d_i = \frac1S \sum_s (v_{s i} - v^\text{baseline}_{s i}), \qquad
       \bar d \pm t_{n-1} \, \mathrm{sd}(d) / \sqrt n

    Models are what differs in encoder, decoder, prior, estimator or training; seeds s that both have are paired. The
    interval is of other data for these trained nets, and says nothing of other seeds: ``between_sd`` is the spread of
    mean differences over seeds. p is the paired t-test's, with Holm's correction over all rows. ``n_ok`` of ``n_total``
    seeds have values; ``survivors``: some that both were asked for are not among the pairs. Values that were measured
    by other settings (K, how many data) are not compared.

    Args:
        study: its folder.
        metric: one of which single data are kept: ``log_likelihood``, ``log_likelihood_ais``.
        baseline: words that name one model: each is one of its labels, ``iwae[k=5]``, or the name alone, ``iwae``.
        split: ``test`` (default, where the metric has it) or ``valid``.

    Returns:
        A row for each model and dataset, the baseline among them; columns are ``COLUMNS``.

    Raises:
        FileNotFoundError: the folder holds no results.
        ComparisonError: what was asked for is not there, in one line.

    Source: Student (1908), The Probable Error of a Mean, doi:10.1093/biomet/6.1.1 (paired differences).
    """
    import pandas as pd

    records, cells = load(study), load(study, "cells")
    done = cells[cells["status"] == "done"]
    kept = Store(study).values()
    chosen = _split(kept, done["cell"], metric, split)
    values = {cell: kept[cell][f"{chosen} {metric}"] for cell in done["cell"] if f"{chosen} {metric}" in kept[cell]}
    doubted = trust.doubts(records, metric, chosen)
    digest = done["data_digest"] if "data_digest" in done else done["dataset"]
    rows = []
    for (label, _), mine in done.groupby([done["dataset"].astype("str"), digest.astype("str")]):
        # what failed may not know which data it was to have
        failed = cells[(cells["dataset"] == label) & ~cells["status"].isin(["done", "skipped"])]
        models = _models(pd.concat([mine, failed]), values)
        name = _baseline(baseline, [model for model, one in models.items() if one.by_seed])
        rows += [
            {**dict(zip(AXES, (str(label), *model), strict=True)), "metric": metric, "split": chosen}
            | {"baseline": " ".join(word for word in name if word)}
            | _row(one, models[name])
            | {"remarks": "\n".join(filter(None, [*one.remarks, _doubt(one, doubted)]))}
            for model, one in models.items()
        ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_holm"] = holm(table["p"].tolist())
    words = [_verdict(row) if row.verdict == "compared" else row.verdict for row in table.itertuples()]
    return table.assign(verdict=pd.Series(words, index=table.index, dtype="str"))


def _split(kept: Any, cells: Any, metric: str, split: str | None) -> str:
    """The split that is asked for, or the first that has the metric."""
    names = {name for cell in cells for name in kept[cell]}
    known = sorted({name.split(" ", 1)[1] for name in names})
    if metric not in known:
        raise ComparisonError(f"of single data: {unknown('metric', metric, known)}")
    splits = [each for each in ("test", "valid") if f"{each} {metric}" in names]
    if split is not None and split not in splits:
        raise ComparisonError(unknown("split", split, splits))
    return split or splits[0]


@dataclass
class _Model:
    """What is known of one model: by seed the values of single data, of those that finished, and who was asked."""

    by_seed: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    cells: list[str] = field(default_factory=list)
    how: set[tuple[str, ...]] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    done: int = 0
    remarks: list[str] = field(default_factory=list)


def _models(cells: DataFrame, values: Any) -> dict[tuple[str, ...], _Model]:
    """By model, in the order of the labels."""
    how = [str(column) for column in cells if str(column).startswith(_HOW)]
    found: dict[tuple[str, ...], _Model] = {}
    for _, cell in cells.sort_values([*_MODEL, "seed"]).iterrows():
        model = tuple(str(cell[axis]) for axis in _MODEL)
        one, seed = found.setdefault(model, _Model()), int(cell["seed"])
        one.asked.add(seed)
        if cell["status"] != "done":
            one.remarks.append(lost(cell))
            continue
        one.done += 1
        if cell["cell"] not in values:
            one.remarks.append(f"seed {seed} not measured")
            continue
        if seed in one.by_seed:
            text = " ".join(filter(None, model))
            raise ComparisonError(f"{text} seed {seed} is there twice, measured or trained in two ways")
        one.by_seed[seed] = values[cell["cell"]]
        one.cells.append(str(cell["cell"]))
        one.how.add(tuple(str(cell[column]) for column in how))
    return found


def _doubt(one: _Model, doubted: Mapping[str, float]) -> str:
    return trust.remark([doubted[cell] for cell in one.cells if cell in doubted])


def _baseline(words: str, models: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The one model that has every word."""

    def has(model: tuple[str, ...], word: str) -> bool:
        return any(word in (label, label.split("[")[0]) for label in model)

    found = [model for model in models if all(has(model, word) for word in words.split())]
    if len(found) == 1:
        return found[0]
    varying = [place for place in range(len(_MODEL)) if len({model[place] for model in models}) > 1]
    names = [" ".join(filter(None, (model[place] for place in varying))) for model in found or models]
    if not found:
        raise ComparisonError(unknown("model", words, names))
    raise ComparisonError(f"baseline {words!r} is ambiguous: say which of {', '.join(names)}")


def _row(one: _Model, base: _Model) -> dict[str, Any]:
    seeds = sorted(one.by_seed.keys() & base.by_seed.keys())
    sizes = {len(each.by_seed[seed]) for each in (one, base) for seed in seeds}
    row: dict[str, Any] = {"seeds": len(seeds), "n_ok": len(one.by_seed), "n_total": len(one.asked), "p": math.nan}
    row["survivors"] = len(seeds) < len(one.asked & base.asked)
    if not one.by_seed:
        return row | {"verdict": "not measured" if one.done else "failed"}
    if not seeds:
        return row | {"verdict": "no common seed"}
    if len(one.how | base.how) > 1:
        return row | {"verdict": "measured in another way"}
    if len(sizes) > 1:
        return row | {"verdict": "other data"}
    a, b = (np.stack([each.by_seed[seed] for seed in seeds]).astype("float64") for each in (one, base))
    row |= {"value": a.mean(), "baseline_value": b.mean(), "data": sizes.pop()}
    if one is base:
        return row | {"estimate": 0.0, "verdict": "baseline"}
    if not np.isfinite(a - b).all():
        return row | {"verdict": "not resolved"}
    return row | _effect(a - b)


def _effect(differences: NDArray[np.float64]) -> dict[str, Any]:
    """Of differences ``[S, n]``."""
    from scipy import stats

    count, n = differences.shape
    each = differences.mean(0)
    estimate, error = float(each.mean()), float(each.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    between = float(differences.mean(1).std(ddof=1)) if count > 1 else math.nan
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * error if n > 1 else math.nan
    found = {"estimate": estimate, "low": estimate - half, "high": estimate + half, "std_error": error}
    p = float(2 * stats.t.sf(abs(estimate) / error, n - 1)) if error > 0 else math.nan
    return {**found, "between_sd": between, "p": p, "verdict": "compared"}


def _verdict(row: Any) -> str:
    if row.p_holm != row.p_holm:
        return "no error known" if row.estimate else "equal"
    side = "lower" if row.estimate < 0 else "higher"
    return side if row.p_holm < ALPHA else "not distinguished"


def notes(table: DataFrame) -> list[str]:
    """What a reader must know of the figures, one line each."""
    found = ["95% t-interval of paired differences over data: of these trained nets, and no others"]
    spread = table["between_sd"].max()
    if spread == spread:
        found.append(f"differences are averaged over common seeds; between seeds they vary by sd {spread:.2g} at most")
    tests = int(table["p"].notna().sum())
    if tests:
        found.append(f"p: two-sided paired t-test, Holm over {tests} comparison{'s' * (tests != 1)}; verdicts at 5%")
    remarks: dict[str, list[str]] = {}
    for lines, name in zip(table["remarks"], _names(table), strict=True):
        for remark in lines.splitlines():
            remarks.setdefault(remark, []).append(name)
    return found + [f"{', '.join(names)}: {remark}" for remark, names in remarks.items() if remark]


def _names(table: DataFrame) -> list[str]:
    """Of each row, by what differs between them, as short as tells them apart."""
    varying = [axis for axis in AXES if len(table[axis].unique()) > 1] or ["estimator"]
    short = {axis: short_names(table[axis].unique()) for axis in varying}
    return [" ".join(filter(None, (short[a][row[a]] for a in varying))) for row in table.to_dict("records")]


def show(study: str | Path, form: str, **asked: Any) -> int:
    """Compare, and print as ``table``, ``json``, ``csv`` or ``latex``; returns the exit code."""
    return printed(form, lambda: paired_differences(study, **asked), _terminal, _as_json, _as_latex)


def _as_json(table: DataFrame) -> dict[str, Any]:
    told = {name: table[name].iloc[0] for name in ("metric", "baseline")}
    return told | {"notes": notes(table), "rows": json.loads(table.to_json(orient="records", double_precision=15))}


def _as_latex(table: DataFrame) -> str:
    frame = _shown(table).style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    body: str = frame.to_latex(hrules=True, column_format="lrrrlrr")
    return "".join(f"% {line}\n" for line in notes(table)) + body


def _shown(table: DataFrame) -> DataFrame:
    """The rows as text, named by what differs."""
    import pandas as pd

    rows = []
    for name, row in zip(_names(table), table.to_dict("records"), strict=True):
        known = row["low"] == row["low"]
        between = f" [{row['low']:.3f}, {row['high']:.3f}]" if known else ""
        rows.append(
            (
                name,
                f"{row['value']:.3f}" if row["value"] == row["value"] else "",
                f"{row['estimate']:.3f}{between}" if row["estimate"] == row["estimate"] else "",
                _p(row["p_holm"]),
                row["verdict"],
                f"{row['seeds']} of {row['n_total']}" if row["seeds"] < row["n_total"] else str(row["seeds"]),
                f"{row['data']:.0f}" if row["data"] == row["data"] else "",
            )
        )
    return pd.DataFrame(rows, columns=list(_HEAD))


def _p(value: float) -> str:
    if value != value:
        return ""
    return f"{value:.3g}" if value >= _LEAST_P else f"<{_LEAST_P:g}"


def _terminal(table: DataFrame) -> Iterator[Any]:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    first = table.iloc[0]
    yield Text(f"{first['metric']}: paired differences to {first['baseline']}, {first['split']} data")
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for name in _HEAD:
        word = name in ("model", "verdict")
        found.add_column(name, justify="left" if word else "right", no_wrap=not word, overflow="fold")
    for row in _shown(table).itertuples(index=False):
        found.add_row(*map(Text, row))  # brackets are no markup
    yield found
    for line in notes(table):
        yield Text(line, style="dim")
