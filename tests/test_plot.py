"""The figures from Python."""

from __future__ import annotations

import inspect

import matplotlib as mpl
import pytest

import vbench
from tests.report.small_studies import study as write
from vbench import plot
from vbench.report.figures import CHARTS

mpl.use("agg")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write(tmp_path_factory.mktemp("results") / "small")


@pytest.fixture(autouse=True)
def closed():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def test_every_figure_of_the_report_has_a_function() -> None:
    names = {chart.name.replace("-", "_") for chart in CHARTS} - {"elbo_steps", "elbo_seconds"} | {"elbo"}
    assert set(plot.__all__) == names
    assert plot.__all__ == sorted(plot.__all__)


@pytest.mark.parametrize("name", ["elbo", "log_likelihood", "gradient_variance", "paired_ratios", "throughput"])
def test_axes_are_returned(name, study) -> None:
    axes = getattr(vbench.plot, name)(study)
    assert axes
    assert {one.figure for one in axes} == {axes[0].figure}


def test_filtered_frames_are_drawn(study) -> None:
    records, cells = vbench.load(study), vbench.load(study, "cells")
    (axes,) = plot.elbo((records, cells[cells["estimator"] == "reparam"]), against="seconds")
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["reparam 3/3"]


def test_what_is_missing_is_a_lookup_error_and_leaves_no_figure(study) -> None:
    import matplotlib.pyplot as plt

    with pytest.raises(LookupError, match="no gradient_cosine"):
        plot.gradient_cosine(study)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda study: plot.elbo(study, columns=0), "columns is at least 1"),
        (lambda study: plot.elbo(study, against="epochs"), "unknown figure 'elbo-epochs'; one of elbo-steps"),
    ],
    ids=["columns", "against"],
)
def test_a_wrong_argument_is_one_line(call, message, study) -> None:
    with pytest.raises(ValueError, match=message):
        call(study)


def test_the_settings_of_others_figures_are_left_alone(study) -> None:
    before = dict(mpl.rcParams)
    plot.elbo(study)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", plot.__all__)
def test_each_says_what_it_shows(name) -> None:
    assert inspect.getdoc(getattr(plot, name))
