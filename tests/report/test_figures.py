"""What the figures draw, against numbers worked out by hand from the records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.report.small_studies import STEPS, VARIANCE, commit, rows, study
from vbench.records import Row, Store
from vbench.report.evidence import read_evidence
from vbench.report.figures import CHARTS, panels
from vbench.report.figures.planes import front_of
from vbench.report.figures.style import marks, save
from vbench.report.numbers import MissingError

BY_NAME = {chart.name: chart for chart in CHARTS}
_ELSEWHERE = (
    *("gradient-cosine", "gradient-mse", "gradient-bias", "noise-share", "variance-outcome", "tuning"),
    "gradient-layers",
    *("likelihood-ladder", "likelihood-shortfall", "likelihood-gap", "samples", "reconstructions", "sample-quality"),
)
DRAWN = [name for name in BY_NAME if name not in _ELSEWHERE]


def drawn(name, evidence, columns=3):
    return BY_NAME[name].drawn(Figure(), evidence, columns)


def lines(axes):
    """Drawn data by colour and marker."""
    return {(line.get_color(), line.get_marker()): (line.get_xdata(), line.get_ydata()) for line in axes.lines}


def titled(placed):
    return {tuple(axes.get_title("left").splitlines()): axes for axes in placed}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("columns", [1, 3])
def test_every_figure_is_drawn_with_its_axes_labelled(name, columns, evidence) -> None:
    placed = drawn(name, evidence, columns)
    assert placed
    assert all(axes.get_xlabel() for axes in placed)


def test_the_curve_of_gradient_variance_is_the_geometric_mean_of_the_seeds(evidence) -> None:
    axes = titled(drawn("gradient-variance", evidence))["ELBO", "encoder gradient"]
    colour, shape, _ = panels.looks(evidence)["reparam"]
    x, y = lines(axes)[colour, shape]
    final = float(np.prod(VARIANCE["reparam"])) ** (1 / 3)
    assert x.tolist() == list(STEPS)
    assert y.tolist() == pytest.approx([final * (1 + step) / 201 for step in STEPS])
    assert axes.get_yscale() == "log"


def test_variances_of_different_estimands_never_share_axes(evidence) -> None:
    placed = titled(drawn("gradient-variance", evidence))
    assert set(placed) == {(e, f"{part} gradient") for e in ("ELBO", "IWAE, K=5") for part in ("encoder", "decoder")}
    looks = panels.looks(evidence)
    for (estimand, _), axes in placed.items():
        own = {"iwae[k=5]"} if estimand == "IWAE, K=5" else {"reparam", "rloo[k=4]"}
        assert {line.get_color() for line in axes.lines} == {looks[name].colour for name in own}


def test_survivors_have_open_marks_and_a_count_and_the_failed_seed_a_cross(evidence) -> None:
    (axes,) = drawn("elbo-steps", evidence)
    colour = panels.looks(evidence)["rloo[k=4]"].colour
    mine = [line for line in axes.lines if line.get_color() == colour]
    solid = [line for line in mine if line.get_marker() == "D" and line.get_markerfacecolor() != "none"]
    assert [len(line.get_xdata()) for line in solid] in ([], [0])
    assert [text.get_text() for text in axes.texts] == ["2/3"]
    (cross,) = [line for line in mine if line.get_marker() == "x"]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (100, -122)
    (legend,) = axes.figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"reparam 3/3", "rloo[k=4] 2/3", "iwae[k=5] 3/3"}


def test_seconds_are_steps_by_the_pace_of_each_seed(evidence) -> None:
    (axes,) = drawn("elbo-seconds", evidence)
    colour, shape, _ = panels.looks(evidence)["reparam"]
    x, _ = lines(axes)[colour, shape]
    assert x.tolist() == pytest.approx([100 * 0.02, 200 * 0.02])  # the mean of 0.01, 0.02, 0.03 s a step


def test_log_likelihood_names_each_estimator_with_its_seeds(evidence) -> None:
    (axes,) = drawn("log-likelihood", evidence)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["iwae[k=5]  3/3", "reparam  3/3", "rloo[k=4]  2/3 (1 diverged)"]


def test_paired_ratios_are_of_the_same_seeds(evidence) -> None:
    table = BY_NAME["paired-ratios"].numbers(evidence)
    row = table[(table["series"] == "reparam") & (table["baseline"] == "rloo[k=4]")].iloc[0]
    assert row["value"] == pytest.approx(math.sqrt(4 / 1 * 8 / 4))  # seed 2 of rloo diverged
    assert row["n_ok"] == 2
    assert "iwae[k=5]" not in set(table["series"])


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 9), (2, 3), (3, 4), (4, 1)], [(1, 9), (2, 3), (4, 1)]),
        ([(1, 1), (1, 2), (2, 1)], [(1, 1)]),
        ([], []),
    ],
    ids=["some", "one beats all", "none"],
)
def test_the_front_holds_what_nothing_beats(points, front) -> None:
    assert front_of(points) == front


def test_no_two_of_sixty_names_look_alike() -> None:
    assert len(set(marks([str(i) for i in range(63)]).values())) == 63


@pytest.mark.parametrize("name", ["elbo-steps", "log-likelihood", "rate-distortion"])
def test_one_value_far_out_does_not_hide_the_rest(name, tmp_path) -> None:
    folder = study(tmp_path / "s", ["reparam", "iwae[k=5]"])
    wild = [row._replace(value=-1e24) if row.unit == "nats" else row for row in rows("rloo[k=4]", 0)]
    commit(Store(folder), "rloo[k=4]", 0, measured=wild)
    (axes,) = drawn(name, read_evidence(folder))
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert high - low < 1000
    arrows = [line for line in axes.lines if line.get_marker() in ("v", "<", "^", ">") and not line.get_clip_on()]
    assert arrows


def test_names_are_drawn_as_they_are(tmp_path) -> None:
    names = ["_hidden", "$\\frac{1}{2}$", "<b>bold</b>", "名前", "a" * 300]
    store = Store(tmp_path / "s")
    for number, name in enumerate(names):
        commit(store, name, 0, measured=rows("reparam", 0), key=f"cell{number}")
    (axes,) = drawn("elbo-steps", read_evidence(tmp_path / "s"))
    texts = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert len(texts) == len(names)
    assert max(map(len, texts)) < 60
    save(axes.figure, "svg")
    save(axes.figure, "pdf")


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("gradient-cosine", "gradient_cosine"),
        ("gradient-mse", "gradient_mse"),
        ("gradient-bias", "gradient_bias"),
        ("noise-share", "noise_share"),
    ],
)
def test_metrics_of_a_target_are_drawn_where_they_are(name, metric, tmp_path, evidence) -> None:
    with pytest.raises(MissingError, match=f"no {metric} "):
        BY_NAME[name].numbers(evidence)
    store = Store(tmp_path / "s")
    for seed in range(2):
        measured = [Row(step, "train", metric, "encoder", 0.5, 0.1, 20, "1") for step in (0, 10)]
        commit(store, "reparam", seed, measured=measured)
    (axes,) = drawn(name, read_evidence(tmp_path / "s"))
    assert [0.5, 0.5] in [line.get_ydata().tolist() for line in axes.lines]


def test_layers_have_a_figure_of_their_own_at_the_last_checkpoint(tmp_path, evidence) -> None:
    with pytest.raises(MissingError, match="layers: true"):
        BY_NAME["gradient-layers"].numbers(evidence)
    store = Store(tmp_path / "s")
    values = {"decoder.net.10": 2.0, "encoder.net.2": 8.0, "encoder.net.0": 4.0}
    for seed in range(2):
        layers = [
            Row(step, "train", "gradient_variance", layer, value * (1 + seed) * (1 + step), 0.1, 20, "nats^2")
            for step in (0, 200)
            for layer, value in values.items()
        ]
        commit(store, "reparam", seed, measured=[*rows("reparam", seed), *layers])
    found = read_evidence(tmp_path / "s")
    (axes,) = drawn("gradient-layers", found)
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names == ["encoder.net.2", "encoder.net.0", "decoder.net.10"]
    wanted = [values[name] * 201 * 2**0.5 for name in names]
    assert [line.get_ydata().tolist() for line in axes.lines if line.get_marker() == "o"][-1] == pytest.approx(wanted)
    parts = {title[-1] for title in titled(drawn("gradient-variance", found))}
    assert parts == {"encoder gradient", "decoder gradient"}


def test_the_same_figure_gives_the_same_bytes(evidence) -> None:
    for kind in ("svg", "pdf", "png"):
        first, second = (save(drawn("elbo-steps", evidence)[0].figure, kind) for _ in range(2))
        assert first == second


def test_an_estimator_that_failed_at_once_stands_in_no_ones_way(tmp_path) -> None:
    folder = study(tmp_path / "s", ["reparam", "rloo[k=4]"], seeds=2)
    for seed in range(2):
        commit(Store(folder), "iwae[k=5]", seed, "failed", reason="boom")
    evidence = read_evidence(folder)
    for name in ("gradient-variance", "paired-ratios", "variance-cost", "elbo-steps"):
        assert drawn(name, evidence)
    (axes,) = drawn("elbo-steps", evidence)
    assert "no finite value: iwae[k=5]" in [text.get_text() for text in axes.texts]
