"""The table at the end of a run: what is averaged over what, and that nothing that failed is hidden."""

from __future__ import annotations

from io import StringIO

import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from vbench.report.summary import summarize, tables

AXES = {"dataset": "digits", "encoder": "gaussian", "decoder": "bernoulli", "prior": "standard-normal", "train": ""}


def study(
    *values: tuple[str, float | None], encoders: tuple[str, ...] = ("gaussian",)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames of a study: (estimator, final test ELBO or None for a failure), at each encoder."""
    cells, records = [], []
    for encoder in encoders:
        for number, (estimator, value) in enumerate(values):
            labels = AXES | {"encoder": encoder, "estimator": estimator, "cell": f"{encoder}{number}"}
            status = "failed" if value is None else "done"
            cells.append(labels | {"status": status, "bound": "IWAE()" if estimator.startswith("iwae") else "ELBO()"})
            for step, shift in ((10, -50.0), (20, 0.0)):
                if value is not None:
                    row = {"metric": "elbo", "split": "test", "part": "all", "step": step, "value": value + shift}
                    records += [
                        labels | row,
                        labels | row | {"metric": "gradient_variance", "split": "train", "part": "encoder"},
                    ]
    columns = [*AXES, "estimator", "cell", "metric", "split", "part", "step", "value"]
    return pd.DataFrame(records, columns=columns), pd.DataFrame(cells)


def printed(summary) -> str:
    console = Console(file=StringIO(), width=80)
    for item in tables(summary):
        console.print(item)
    return console.file.getvalue()


def test_the_last_step_counts_and_seeds_are_averaged_with_a_t_interval() -> None:
    summary = summarize(*study(("reparam", -90.0), ("reparam", -92.0), ("reparam", -97.0)))
    ((row,),) = (section.rows for section in summary.sections)
    half = stats.sem([-90, -92, -97]) * stats.t.ppf(0.975, 2)
    assert row[:2] == ("reparam", f"-93.00 ±{half:.2f}")
    assert row[-1] == "3/3"


def test_failures_are_counted_never_averaged_away() -> None:
    summary = summarize(*study(("reparam", -90.0), ("reparam", None), ("rloo[k=4]", None)))
    reparam, rloo = summary.sections[0].rows
    assert reparam[1] == "-90.00"
    assert reparam[-1] == "1/2"
    assert rloo[1] == "-"
    assert rloo[-1] == "0/1"


def test_one_seed_has_no_interval() -> None:
    summary = summarize(*study(("reparam", -90.0)))
    assert summary.sections[0].rows[0][1] == "-90.00"


def test_models_part_into_sections_and_what_is_common_is_said_once() -> None:
    summary = summarize(*study(("reparam", -90.0), ("iwae[k=5]", -89.0), encoders=("gaussian", "laplace[latent=2]")))
    assert [section.axes for section in summary.sections] == [{"encoder": "gaussian"}, {"encoder": "laplace[latent=2]"}]
    assert summary.common == {"dataset": "digits", "decoder": "bernoulli", "prior": "standard-normal"}
    assert [row[0] for row in summary.sections[0].rows] == ["reparam", "iwae[k=5]"]


def test_variances_of_different_bounds_carry_a_warning() -> None:
    both = summarize(*study(("reparam", -90.0), ("iwae[k=5]", -89.0)))
    one = summarize(*study(("reparam", -90.0), ("rloo[k=4]", -89.0)))
    warning = "gradient variances compare within one bound only"
    assert warning in both.notes
    assert warning not in one.notes


def test_brackets_are_printed_and_lines_fit() -> None:
    text = printed(summarize(*study(("iwae[k=5]", -90.0), ("reparam", -91.0), encoders=("gaussian", "b[k=3]"))))
    assert "iwae[k=5]" in text
    assert "encoder b[k=3]" in text
    assert max(map(len, text.splitlines())) <= 80


def test_all_skipped() -> None:
    records, cells = study(("reparam", None))
    summary = summarize(records, cells.assign(status="skipped"))
    assert summary.sections == ()
    assert summary.notes == ("nothing ran: every cell was skipped",)


@pytest.mark.parametrize(("value", "text"), [(12345.6, "12346"), (0.0012345, "0.00123"), (99.94, "99.9")])
def test_variances_have_three_figures(value: float, text: str) -> None:
    records, cells = study(("reparam", -90.0))
    records.loc[records["metric"] == "gradient_variance", "value"] = value
    assert summarize(records, cells).sections[0].rows[0][2] == text


def test_what_was_run_in_two_ways_is_no_more_seeds() -> None:
    """The same training, its gradients measured at two references; and two states of one dataset."""
    records, cells = study(("reparam", -90.0), ("reparam", -92.0), ("reparam", -90.0), ("reparam", -92.0))
    apart = cells.assign(**{"measure.gradients.reference": ["a", "a", "b", "b"]})
    first, second = summarize(records, apart).sections
    half = stats.sem([-90, -92]) * stats.t.ppf(0.975, 1)
    assert first.axes == {"settings": "measure.gradients.reference a"}
    assert first.rows[0][1] == f"-91.00 ±{half:.2f}"
    assert (first.rows[0][-1], second.rows[0][-1]) == ("2/2", "2/2")
    assert printed(summarize(records, apart)).count("2/2") == 2, "no column gives way to the settings"
    summary = summarize(records, cells.assign(data_digest=["old"] * 2 + ["new"] * 2))
    assert [section.axes for section in summary.sections] == [{"settings": "data old"}, {"settings": "data new"}]
    assert max(map(len, printed(summary).splitlines())) <= 80
    (row,) = summarize(records, cells.assign(data_digest="old")).sections[0].rows
    assert row[-1] == "4/4"
