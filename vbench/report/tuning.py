"""Of the training settings that a grid sweeps, the one that each estimator is compared by: tuned on validation data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from vbench.report.evidence import Evidence, evidence
from vbench.report.numbers import MissingError, numbers
from vbench.report.selection import ComparisonError
from vbench.report.summary import MODEL_AXES

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["at_best", "sensitivity", "tuned"]

_BEST: Final = "each at its best on validation data"


def tuned(study: Evidence) -> Evidence:
    """The study with the cells of each estimator's best training setting alone.

    Best is the largest mean validation ELBO at the last step. A setting at which a seed did not finish loses to any at
    which all did: a mean over survivors chooses nothing.

    Args:
        study: where nothing is swept, all of it is kept.

    Raises:
        MissingError: no ELBO of validation data was recorded.
    """
    table = numbers(study, "elbo", "valid", last=True)
    names = [*MODEL_AXES, "estimator", "settings", "combination"]
    told = study.asked[names].astype(dict.fromkeys(names[:-1], "str")).drop_duplicates("combination")
    ranked = told.merge(table, on="combination").assign(whole=lambda t: t["n_ok"] == t["n_total"])
    ranked = ranked.sort_values(["whole", "value"], ascending=False, kind="stable", na_position="last")
    kept = ranked.drop_duplicates(names[:-1])["combination"]
    return replace(study, cells=study.cells[study.cells["combination"].isin(kept)])


def at_best(records: DataFrame, cells: DataFrame) -> DataFrame:
    """The cells that :func:`tuned` keeps, as one training setting; the column ``tuned`` says which it was of each.

    Raises:
        ComparisonError: no ELBO of validation data was recorded.
    """
    try:
        kept = set(tuned(evidence((records, cells))).cells["cell"])
    except MissingError as error:
        raise ComparisonError(f"tuned: {error}") from None
    chosen = cells[cells["cell"].astype("str").isin(kept)]
    told = chosen["train"].astype("str")
    return chosen.drop(columns=[c for c in chosen if str(c).startswith("train.")]).assign(train=_BEST, tuned=told)


def sensitivity(study: Evidence) -> tuple[Evidence, DataFrame]:
    """Validation ELBO at the last step of every training setting, with the study named by estimators alone.

    Returns:
        The study, each series one estimator, and the numbers with ``x``: the swept value where one number is swept
        (NaN elsewhere), and ``setting``: what is swept, in words.

    Raises:
        MissingError: no ELBO of validation data was recorded.
    """
    cells = study.cells.assign(series=study.cells["estimator"].astype("str"))
    merged = replace(study, cells=cells)
    told = cells.drop_duplicates("combination").set_index("combination")
    table = numbers(merged, "elbo", "valid", last=True)
    setting = [str(told.loc[combination, "train"]) for combination in table["combination"]]
    return merged, table.assign(setting=setting, x=[_number(text) for text in setting])


def _number(setting: str) -> float:
    """The value of ``lr=0.001``.

    >>> _number("lr=0.001"), _number("optimizer=sgd")
    (0.001, nan)
    """
    value = setting.partition("=")[2]
    try:
        return float(value)
    except ValueError:
        return float("nan")
