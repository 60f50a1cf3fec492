"""A comparison on the terminal, as JSON, CSV and LaTeX: the same rows, the same notes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vbench.report.comparison import ComparisonError, compare
from vbench.report.intervals import SEEDS_LEAST, seeds_needed
from vbench.report.metrics import scale_of
from vbench.report.pairing import OTHER
from vbench.report.selection import LABELS

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["as_json", "as_latex", "notes", "printed", "show", "terminal"]

_AXES: Final = (*LABELS, "settings", "part", "step")
_APART: Final = (OTHER, "no baseline", "not measured", "failed")
_LEAST: Final = {"estimator": 8, "verdict": len("distinguished")}  # 80 columns hold every figure whole
_AT: Final = {"k": "as recorded (equal K)", "evaluations": "at equal evaluations", "seconds": "at equal seconds"}


def show(study: str | Path, form: str, **asked: Any) -> int:
    """Compare, and print as ``table``, ``json``, ``csv`` or ``latex``; returns the exit code."""
    return printed(form, lambda: compare(study, **asked), terminal, as_json, as_latex)


def printed(
    form: str,
    made: Callable[[], DataFrame],
    terminal: Callable[[DataFrame], Iterable[Any]],
    as_json: Callable[[DataFrame], dict[str, Any]],
    as_latex: Callable[[DataFrame], str],
) -> int:
    """Make a table and print it in one of the four forms, or why there is none; returns the exit code."""
    try:
        table = made()
    except (ComparisonError, FileNotFoundError) as mistake:
        print(mistake, file=sys.stderr)
        return 2
    if form == "table":
        from rich.console import Console
        from rich.text import Text

        console = Console()
        for item in terminal(table):
            console.print(item, soft_wrap=isinstance(item, Text))
    elif form == "json":
        print(json.dumps(as_json(table), indent=2))
    elif form == "csv":
        print(table.to_csv(index=False), end="")
    else:
        print(as_latex(table), end="")
    return 0


def as_json(table: DataFrame) -> dict[str, Any]:
    """What was asked, the notes, and the rows of the table; what has no figure is null."""
    first = table.iloc[0]
    return {
        "metric": first["metric"],
        "baseline": first["baseline"],
        "kind": first["kind"],
        "at": first["at"],
        "comparisons": int(table["p"].notna().sum()),
        "notes": notes(table),
        "rows": json.loads(table.to_json(orient="records", double_precision=15)),
    }


def as_latex(table: DataFrame) -> str:
    """A booktabs table of what the terminal shows, the notes above it as comments."""
    import pandas as pd

    varying = _varying(table)
    shown = table[~table["verdict"].isin(_APART)]
    rows = [
        {axis: _text(row[axis]) for axis in varying} | dict(zip(_head(table), _figures(row), strict=True))
        for _, row in shown.iterrows()
    ]
    frame = pd.DataFrame(rows, columns=[*varying, *_head(table)])
    comments = [*dict.fromkeys(line for _, section in _sections(table) for line in _lines(section)), *notes(table)]
    body: str = (
        frame.style.hide(axis="index")
        .format(lambda text: str(text).replace("<", "$<$"), escape="latex")
        .format_index(escape="latex", axis=1)
        .to_latex(hrules=True, column_format="l" * (len(varying) + 1) + "rrrlrrr")
    )
    return "".join(f"% {line}\n" for line in [_title(table), *comments]) + body


def terminal(table: DataFrame) -> Iterator[Any]:
    """Rich renderables: a title, then for each group and part a table and its lines, then the notes; 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    yield Text(_title(table))
    for axis in _AXES:
        if axis not in _varying(table) and _text(table[axis].iloc[0]):
            yield Text(f"{axis}: {table[axis].iloc[0]}")
    head = _head(table)
    figures = [_figures(row) for _, row in table[~table["verdict"].isin(_APART)].iterrows()]
    widths = [max(map(len, column)) for column in zip(head, *figures, strict=True)]
    common = set.intersection(*(set(_lines(section)) for _, section in _sections(table)))
    for axes, section in _sections(table):
        yield Text("")
        if axes:
            yield Text(", ".join(f"{axis} {value}" for axis, value in axes.items()), style="bold")
        rows = [_figures(row) for _, row in section[~section["verdict"].isin(_APART)].iterrows()]
        if rows:
            found = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
            for name, width in zip(head, widths, strict=True):
                word = name in _LEAST
                found.add_column(
                    name,
                    justify="left" if word else "right",
                    no_wrap=not word,
                    overflow="fold",
                    min_width=min(width, _LEAST[name]) if word else width,
                    max_width=width,
                )
            for row in rows:
                found.add_row(*map(Text, row))  # brackets are no markup
            yield found
        for line in _lines(section):
            if line not in common:
                yield Text(line)
    yield Text("")
    for line in (*(line for line in _lines(section) if line in common), *notes(table)):
        yield Text(line, style="dim")


def notes(table: DataFrame) -> list[str]:
    """What a reader must know of the figures, one line each."""
    first, found = table.iloc[0], []
    scale = scale_of(first["metric"])
    tests = int(table["p"].notna().sum())
    for count in sorted(table.loc[table["basis"] == "seeds", "seeds"].unique()):
        what = f"log {first['kind']}s" if scale.ratio else f"{first['kind']}s"
        found.append(f"{count} seeds: 95% t-interval over seeds of the paired {what}{_share(table, count)}")
    if (table["basis"] == "draws").any():
        found.append("1 seed: 95% interval of Monte Carlo error at one checkpoint; it says nothing of other seeds")
        found.append("the two errors add as independent ones: too wide where estimators share their draws")
    if (table["verdict"] == "no error known").any():
        found.append("1 seed and an error that no record holds: no interval; more seeds give one")
    if tests:
        test = "t-test" if scale.ratio or scale.draws else "sign flips over seeds"
        found.append(f"p: two-sided, {test}, Holm over {tests} comparison{'s' * (tests != 1)}; verdicts at 5%")
    if not (scale.ratio or scale.draws):
        found += _few(table, tests)
    if table["p_equivalence"].notna().any():
        found.append("equal within: two one-sided t-tests at 5%, Holm over the same comparisons")
    if (table["survivors"] & table["estimate"].notna()).any():
        found.append("*: over the seeds that finished in both only; what failed is not in it")
    of = "gradient" if scale.draws else "training step"
    found.append(f"evals: decoder evaluations per datum; ms: milliseconds; of one {of}; ok: seeds done of asked")
    return found + _remarks(table)


def _share(table: DataFrame, seeds: int) -> str:
    """How much of the error over seeds is Monte Carlo error."""
    over = table[(table["basis"] == "seeds") & (table["seeds"] == seeds) & (table["std_error"] > 0)]
    share = (over["mc_std_error"] / over["std_error"]).median()
    return f" (Monte Carlo error, as if independent: {share:.2f} of its error)" if share == share else ""


def _few(table: DataFrame, tests: int) -> Iterator[str]:
    """Where sign flips cannot reach 5%, whatever the figures."""
    compared = table.loc[(table["basis"] == "seeds") | (table["verdict"] == "no error known"), "seeds"]
    least = int(compared.min()) if len(compared) else SEEDS_LEAST
    if least < SEEDS_LEAST:
        yield f"too few seeds ({least}): sign flips reach p = {2 / 2**least:g} at best; {SEEDS_LEAST} are needed"
    elif tests and least < seeds_needed(tests):
        yield f"{least} seeds cannot reach 5% in {tests} comparisons by sign flips: {seeds_needed(tests)} are needed"


def _remarks(table: DataFrame) -> list[str]:
    names: dict[str, dict[str, None]] = {}
    everyone = dict.fromkeys(table["estimator"])
    for _, row in table.iterrows():
        for remark in row["remarks"].splitlines():
            names.setdefault(remark, {})[row["estimator"]] = None
    return [f"{'all' if of == everyone else ', '.join(of)}: {remark}" for remark, of in names.items()]


def _title(table: DataFrame) -> str:
    first = table.iloc[0]
    return f"{first['metric']}: {first['kind']} to {first['baseline']}, {_AT[first['at']]}, {first['split']} data"


def _varying(table: DataFrame) -> list[str]:
    return [axis for axis in _AXES if len(table[axis].unique()) > 1]


def _text(value: Any) -> str:
    """Empty where nothing was measured that could tell the step."""
    return str(value).replace("<NA>", "")


def _sections(table: DataFrame) -> Iterator[tuple[dict[str, str], DataFrame]]:
    varying = _varying(table)
    for _, section in table.groupby([*LABELS, "settings", "part"], sort=False, dropna=False):
        yield {axis: text for axis in varying if (text := _text(section[axis].iloc[0]))}, section


def _lines(section: DataFrame) -> Iterator[str]:
    """What has no row in the table, a line for each reason."""
    metric, baseline = section["metric"].iloc[0], section["baseline"].iloc[0]
    for verdict in _APART:
        of = section[section["verdict"] == verdict]
        names = ", ".join(of["estimator"])
        if of.empty:
            continue
        if verdict == OTHER:
            for bound in of["estimand"].unique():
                same = ", ".join(of.loc[of["estimand"] == bound, "estimator"])
                told = f"{OTHER} ({bound or 'none declared'}): {same}"
                yield f"{told}: {metric} does not compare; {_instead(metric)}"
        elif verdict == "no baseline":
            yield f"no {baseline} with {metric} here: nothing to compare {names} to"
        else:
            yield f"{verdict}: {names}"


def _instead(metric: str) -> str:
    if metric == "bound":
        return "compare elbo or log_likelihood instead"
    return "compare gradient_relative_variance, gradient_snr, gradient_cosine or gradient_mse instead"


def _head(table: DataFrame) -> tuple[str, ...]:
    return ("estimator", "value", f"{table['kind'].iloc[0]} [95%]", "p", "verdict", "evals", "ms", "ok")


def _figures(row: Series[Any]) -> tuple[str, ...]:
    star = "*" * bool(row["survivors"] and row["estimate"] == row["estimate"])
    return (
        row["estimator"],
        _significant(row["value"], 3) if row["kind"] == "ratio" else _decimal(row["value"], 2),
        _estimate(row) + star,
        _probability(row["p_holm"]),
        row["verdict"],
        _significant(row["evaluations"], 2, exact=True),
        _significant(1000 * row["seconds"], 2),
        f"{row['n_ok']}/{row['n_total']}",
    )


def _estimate(row: Series[Any]) -> str:
    """The figure with as many digits as its interval resolves."""
    estimate, low, high = row["estimate"], row["low"], row["high"]
    known = low == low
    if estimate != estimate:
        return ""
    if row["verdict"] == "baseline":
        return f"{estimate:g}"
    if row["kind"] == "ratio":
        relative = (estimate - low) / estimate if known else 0.0
        digits = min(5, max(2, 1 - math.floor(math.log10(relative)))) if relative > 0 else 3
        shown = [_significant(x, digits) for x in (estimate, low, high)]
    else:
        half = high - estimate if known else abs(estimate) / 10
        digits = min(6, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 2
        shown = [_decimal(x, digits) for x in (estimate, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if known else shown[0]


def _significant(x: float, digits: int, *, exact: bool = False) -> str:
    """So many significant digits without an exponent, as long as that is short.

    >>> _significant(0.28238, 3), _significant(2104.2, 3), _significant(6303705.0, 3), _significant(1.0, 3)
    ('0.282', '2104', '6.30e6', '1.00')
    """
    if not math.isfinite(x):
        return "-" if math.isnan(x) else str(x)
    if x == 0 or (exact and x == int(x) and abs(x) < 1e6):
        return f"{x:.0f}"
    size = math.floor(math.log10(abs(x)))
    if not -5 < size < 6:
        mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return _decimal(x, max(0, digits - 1 - size))


def _decimal(x: float, digits: int) -> str:
    return "-" if math.isnan(x) else f"{x:.{digits}f}"


def _probability(p: float) -> str:
    if math.isnan(p):
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"
