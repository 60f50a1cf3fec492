"""Every number of a written page, computed again from the records by other code than wrote it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from vbench.report.contents import NUMBER_FIELDS, SOURCE_FIELDS, Contents, contents
from vbench.report.evidence import Evidence
from vbench.report.page import build, generator, told
from vbench.report.reader import Written, read_page
from vbench.report.summary import GROUP_FIELDS

__all__ = ["differences"]

_CLOSE: Final = 1e-9
_EQUAL: Final = 2e-6  # a comparison calls two variances equal that agree to single precision
_Values = list[tuple[float, float, float]]


def differences(html: str, evidence: Evidence, step: Callable[[str], None] = lambda what: None) -> list[str]:
    """What a written page says otherwise than the records do, one line each.

    Every number is computed again, and every number that the records give must be there. Where the code that wrote the
    page is the code at hand, its text and pictures are compared too, to the byte.

    Args:
        html: the page as it was written.
        evidence: the study as its records are now.
        step: called with what is being worked on.

    Raises:
        PageError: it is no page of vbench.
    """
    written, expected = read_page(html), contents(evidence, step)
    found = [
        *_numbers(written, evidence, expected),
        *_prints(written),
        *_published(written, expected),
        *_cells(written, expected),
    ]
    if not found and written.generator == generator():
        again = build(expected, step).html
        if html != again:
            found.append(f"the page differs from what its records and code give, {_first(html, again)}")
    return found


def _numbers(written: Written, evidence: Evidence, expected: Contents) -> Iterator[str]:
    """Each number against the records, and whether each that the records give is there."""
    recount = _Recount(evidence, written.combinations)
    wanted = {_source(number, expected.groups): number for number in expected.numbers}
    seen = set()
    for number in written.numbers:
        source = _source(number, written.combinations)
        seen.add(source)
        if source not in wanted:
            yield f"{_named(number)}: not a number that these records give"
            continue
        again = recount.number(number, wanted[source])
        for name in NUMBER_FIELDS:
            if not _same(number.get(name), again[name], _EQUAL if number["against"] is not None else _CLOSE):
                yield f"{_named(number)}: {name} is {number.get(name)} on the page, {again[name]} by the records"
    for source, number in wanted.items():
        if source not in seen:
            yield f"{_named(number)}: missing from the page"


def _source(number: Mapping[str, Any], combinations: Sequence[Mapping[str, str]]) -> tuple[Any, ...]:
    """Where a number comes from, whatever numbers its combinations bear."""

    def axes(place: Any) -> tuple[str, ...] | None:
        known = isinstance(place, int) and 0 <= place < len(combinations)
        return tuple(combinations[place].get(axis, "") for axis in GROUP_FIELDS) if known else None

    plain = tuple(number.get(name) for name in SOURCE_FIELDS if name not in ("combination", "against"))
    return *plain, axes(number.get("combination")), axes(number.get("against"))


def _named(number: Mapping[str, Any]) -> str:
    names = ("figure", "metric", "split", "part", "step", "combination")
    return " ".join(f"{name} {number.get(name)}" if name in names[4:] else str(number.get(name)) for name in names)


def _same(written: Any, again: float | None, close: float) -> bool:
    if written is None or again is None:
        return written is None and again is None
    number = isinstance(written, int | float) and not isinstance(written, bool)
    return number and math.isclose(written, again, rel_tol=close, abs_tol=1e-300)


def _prints(written: Written) -> Iterator[str]:
    """Each printed number against the page's own list, its text against its value; each number is printed."""
    printed = set()
    for given, text in written.data:
        if "data-count" in given or "data-published" in given:
            continue
        name, place = given.get("data-f", ""), given.get("data-n", "")
        known = place.isdigit() and int(place) < len(written.numbers) and name in (*NUMBER_FIELDS, "step")
        if not known:
            yield f"printed {text!r}: of no number in the page's list"
            continue
        number = written.numbers[int(place)]
        printed.add((int(place), name))
        exact = number.get(name)
        if given.get("value", "") != ("" if exact is None else repr(exact)):
            yield f"{_named(number)}: {name} is {exact} in the list, {given.get('value')} where it is printed"
        elif not _rounds(text.strip(), exact):
            yield f"{_named(number)}: {name} is {exact}, printed as {text.strip()!r}"
    for index, number in enumerate(written.numbers):
        survivors = number["n_ok"] != number["n_total"]
        if (index, "value") not in printed or (survivors and (index, "n_ok") not in printed):
            yield f"{_named(number)}: not printed"


def _published(written: Written, expected: Contents) -> Iterator[str]:
    """What others published against the study's file of it, in the list and where it is printed."""
    wanted = told(expected)
    for index in range(max(len(wanted), len(written.published))):
        mine, theirs = (values[index] if index < len(values) else None for values in (wanted, written.published))
        if mine != theirs:
            yield f"published value [{index}]: {theirs} on the page, {mine} by the study's file"
    printed: dict[tuple[str, str], tuple[str | None, str]] = {
        (given["data-published"], given.get("data-f", "")): (given.get("value"), text)
        for given, text in written.data
        if "data-published" in given
    }
    known = {
        (str(place), name): (value[name],) * 2
        for place, value in enumerate(expected.published)
        for name in ("value", "std_error")
        if value[name]
    }
    for which in sorted(printed.keys() | known.keys(), key=str):
        if printed.get(which) != known.get(which):
            shown, asked = printed.get(which), known.get(which)
            place = f"published value [{which[0]}]: {which[1]}"
            yield f"{place} is {shown} where it is printed, {asked} by the study's file"


def _rounds(text: str, exact: float | None) -> bool:
    """Whether a text is the value to the digits that it has."""
    if exact is None:
        return text == "-"
    digits, _, power = text.partition("e")
    try:
        shown = float(text)
        unit = 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
    except ValueError:
        return False
    whole = "." not in digits and not power
    unit = max(unit, 10.0 ** (math.floor(math.log10(abs(exact))) - 2)) if whole and exact else unit
    return abs(shown - exact) <= 0.5 * unit * (1 + 1e-9)


def _cells(written: Written, expected: Contents) -> Iterator[str]:
    """The table of cells, and how many there are of each status."""
    columns = expected.cell_columns
    cells = {cell["cell"]: [cell[name] for name in columns] for cell in expected.cells}
    for key in sorted(written.cells.keys() | cells.keys()):
        if key not in cells or key not in written.cells:
            yield f"cell {key}: {'missing from the page' if key in cells else 'not in the records'}"
            continue
        told = dict(zip(written.heads, written.cells[key], strict=False))
        for name, value in zip(columns, cells[key], strict=True):
            if told.get(name) != value and name != "stale":
                yield f"cell {key}: {name} is {told.get(name)!r} on the page, {value!r} by the records"
    counts = expected.evidence.counts() | {"": len(cells)}
    printed = {given["data-count"]: (given.get("value"), text) for given, text in written.data if "data-count" in given}
    for status in sorted(counts.keys() | printed.keys()):
        exact, text = printed.get(status, (None, "nothing"))
        count = str(counts.get(status))
        if exact != count or text != count:
            yield f"cells {status or 'in all'}: {text} on the page, {count} by the records"


def _first(html: str, expected: str) -> str:
    """The first line that differs."""
    for number, (one, other) in enumerate(zip(html.splitlines(), expected.splitlines(), strict=False), 1):
        if one != other:
            place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))
            start = max(0, place - 20)
            return f"line {number}: {one[start : place + 30]!r} instead of {other[start : place + 30]!r}"
    return "in how many lines it has"


class _Recount:
    """Numbers from the plain frames of records and cells, by NumPy and SciPy."""

    def __init__(self, evidence: Evidence, combinations: Sequence[Mapping[str, str]]) -> None:
        self.combinations = combinations
        names = ["cell", "metric", "split", "part", "step", "value", "std_error", "n"]
        self.measured: dict[tuple[Any, ...], tuple[float, float, float]] = {}
        frame = evidence.records[names].astype({"n": "float64"})
        for *place, value, error, n in frame.itertuples(index=False):
            self.measured[tuple(place)] = float(value), float(error), n
        self.cells: dict[tuple[str, ...], list[tuple[int, str, str]]] = {}
        rows = evidence.cells[[*GROUP_FIELDS, "seed", "cell", "status"]].astype("str").itertuples(index=False)
        for *axes, seed, cell, status in rows:
            if status != "skipped":
                self.cells.setdefault(tuple(axes), []).append((int(seed), cell, status))

    def number(self, number: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, float | None]:
        """The fields of a number; ``known`` serves for what a comparison alone can tell."""
        mine = self._cells(number["combination"])
        if number["against"] is not None:
            return self._ratio(number, mine, known)
        values = [self._value(cell, number) for _, cell, status in sorted(mine) if status == "done"]
        finite = [value for value in values if value is not None and math.isfinite(value[0])]
        value, low, high = _average(finite, number["statistic"])
        return _fields(value, low, high, len(finite), len(mine))

    def _cells(self, place: int) -> list[tuple[int, str, str]]:
        return self.cells.get(tuple(self.combinations[place][axis] for axis in GROUP_FIELDS), [])

    def _value(self, cell: str, number: Mapping[str, Any]) -> tuple[float, float, float] | None:
        metric, split, part, step = (number[name] for name in ("metric", "split", "part", "step"))
        if metric == "training_seconds":
            paces = [found[0] for key, found in self.measured.items() if key[:2] == (cell, "seconds_per_step")]
            trained = (cell, "elbo", "valid", "all", step) in self.measured
            return (step * paces[-1], math.nan, math.nan) if paces and trained else None
        if metric == "seconds_per_gradient":
            work, noise = (
                self.measured.get((cell, name, split, part, step))
                for name in ("work_normalized_variance", "gradient_variance")
            )
            return (work[0] / noise[0], math.nan, math.nan) if work and noise and noise[0] > 0 else None
        return self.measured.get((cell, metric, split, part, step))

    def _ratio(
        self, number: Mapping[str, Any], mine: list[tuple[int, str, str]], known: Mapping[str, Any]
    ) -> dict[str, float | None]:
        other = {seed: cell for seed, cell, status in self._cells(number["against"]) if status == "done"}
        logs = []
        for seed, cell, status in sorted(mine):
            pair = [self._value(key, number) for key in (cell, other.get(seed, "")) if status == "done"]
            if len(pair) == 2 and all(found and found[0] > 0 for found in pair):
                logs.append(math.log(pair[0][0] / pair[1][0]))  # type: ignore[index]
        if not logs:
            return _fields(math.nan, math.nan, math.nan, 0, len(mine))
        middle, low, high = _t_interval(logs)
        if len(logs) == 1:
            return _fields(math.exp(middle), _float(known["low"]), _float(known["high"]), 1, len(mine))
        return _fields(math.exp(middle), math.exp(low), math.exp(high), len(logs), len(mine))


def _float(value: float | None) -> float:
    return math.nan if value is None else value


def _fields(value: float, low: float, high: float, ok: int, total: int) -> dict[str, float | None]:
    ends = {name: end if math.isfinite(end) else None for name, end in (("value", value), ("low", low), ("high", high))}
    return {**ends, "n_ok": ok, "n_total": total}


def _average(found: _Values, statistic: str) -> tuple[float, float, float]:
    if not found:
        return math.nan, math.nan, math.nan
    values = [value for value, _, _ in found]
    geometric = statistic == "geometric mean"
    if len(found) > 1:
        if not geometric:
            return _t_interval(values)
        if min(values) <= 0:
            return (0.0 if min(values) == 0 else math.nan), math.nan, math.nan
        middle, low, high = (math.exp(end) for end in _t_interval(np.log(values).tolist()))
        return middle, low, high
    value, error, n = found[0]
    if not (error >= 0 and n >= 2 and (value > 0 or not geometric)):
        return value, math.nan, math.nan
    from scipy import stats

    if geometric:
        low, high = stats.t.interval(0.95, n - 1, loc=math.log(value), scale=error / value)
        return value, math.exp(low), math.exp(high)
    low, high = stats.t.interval(0.95, n - 1, loc=value, scale=error) if error else (value, value)
    return value, float(low), float(high)


def _t_interval(values: Sequence[float]) -> tuple[float, float, float]:
    from scipy import stats

    middle = float(np.mean(values))
    if len(values) < 2:
        return middle, math.nan, math.nan
    error = float(stats.sem(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=middle, scale=error) if error else (middle, middle)
    return middle, float(low), float(high)
