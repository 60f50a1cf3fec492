"""What is printed of a comparison: whole figures at 80 columns, every reason told, nothing that LaTeX chokes on."""

from __future__ import annotations

import csv
import json
import math
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from tests.report.studies import IWAE, Figure, commit
from vbench.report.comparison import compare
from vbench.report.comparison_table import as_json, as_latex, notes, show, terminal

VARIANCE = "gradient_variance"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for seed in range(3):
        for part in ("all", "encoder"):
            figure = Figure(2996.0 + seed, 30.0, part=part)
            if part == "encoder":
                continue
            commit(tmp_path, "rloo[k=4]", seed, figure, figure._replace(part="encoder"), k=4, seconds=0.0267)
            small = Figure(846.3 - 2 * seed, 9.3)
            commit(tmp_path, "a_b%[path=C:\\x_{1}~^&$#]", seed, small, small._replace(part="encoder"))
            large = Figure(6303705.0 * 1.1**seed, 56191.0)
            if seed < 2:
                commit(tmp_path, "reinforce", seed, large, large._replace(part="encoder"))
            commit(tmp_path, "iwae[k=5]", seed, small, small._replace(part="encoder"), k=5, bound=IWAE)
    commit(tmp_path, "reinforce", 2, status="diverged", reason="step 9; the objective is nan")
    return tmp_path


def printed(table, width: int = 80) -> str:
    console = Console(file=StringIO(), width=width)
    for item in terminal(table):
        console.print(item, soft_wrap=isinstance(item, Text))
    return console.file.getvalue()


def test_the_terminal_has_every_figure_whole_at_80_columns(study: Path) -> None:
    table = compare(study, VARIANCE, "rloo", by="part")
    text = printed(table)
    for line in text.splitlines():
        if "│" in line or "─" in line:
            assert len(line) <= 80
    assert text.count("2997 ") == 2
    for figure in ("0.28", "<.001", "2/3", "3/3", "part all", "part encoder", "higher", "lower", "baseline"):
        assert figure in text, figure
    (line,) = {line for line in text.splitlines() if line.lstrip().startswith("reinforce") and "2/3" in line}
    assert "]*" in line  # over survivors only
    assert "reinforce: seed 2 diverged: step 9; the objective is nan" in text
    assert text.count("other estimand (IWAE, K=5): iwae[k=5]") == 1  # said once where it holds everywhere
    assert "compare gradient_relative_variance, gradient_snr" in text
    assert "dataset: digits" in text


def test_digits_are_those_that_the_interval_resolves(tmp_path: Path) -> None:
    commit(tmp_path, "rloo[k=4]", 0, Figure(1000.0, 1.0))
    commit(tmp_path, "tight", 0, Figure(282.384, 0.28))
    commit(tmp_path, "loose", 0, Figure(282.384, 100.0))
    commit(tmp_path, "tiny", 0, Figure(3.2e-9, 1e-10))
    commit(tmp_path, "bare", 0, Figure(500.0, None))
    text = printed(compare(tmp_path, VARIANCE, "rloo"))
    assert "0.2824 [0.2816, 0.2832]" in text
    assert "0.28 [0.14, 0.57]" in text
    assert "3.20e-12 [3.01e-12, 3.40e-12]" in text
    assert "0.500 " in text


def test_nats_have_the_decimals_of_their_interval(tmp_path: Path) -> None:
    for seed in range(6):
        commit(tmp_path, "reparam", seed, Figure(-101.95 + seed, 0.1, "elbo", split="test"))
        commit(tmp_path, "stl", seed, Figure(-101.12 + 1.01 * seed, 0.1, "elbo", split="test"))
    text = printed(compare(tmp_path, "elbo", "reparam"))
    assert "-99.45" in text
    assert "0.855 [0.835, 0.875]" in text
    assert ".031" in text  # 2 / 2^6


def test_what_cannot_be_compared_is_a_line_each(tmp_path: Path) -> None:
    commit(tmp_path, "reparam", 0, Figure(1.0, 0.1))
    commit(tmp_path, "dreg", 0, status="failed", reason="boom")
    commit(tmp_path, "stl", 0)
    commit(tmp_path, "reinforce", 0, Figure(1.0, 0.1), labels={"prior": "flow"})
    text = printed(compare(tmp_path, VARIANCE, "reparam"))
    assert "no reparam with gradient_variance here: nothing to compare reinforce to" in text
    assert "not measured: stl" in text
    assert "failed: dreg" in text
    assert "dreg: seed 0 failed: boom" in text


def test_notes_say_what_the_interval_is_of(tmp_path: Path) -> None:
    for seed in range(2):
        commit(tmp_path, "reparam", seed, Figure(1.0 + seed, 0.1))
        commit(tmp_path, "nvil", seed, Figure(1.0 + seed**2, 0.1))
        if seed == 0:
            commit(tmp_path / "one", "reparam", seed, Figure(1.0, 0.1))
            commit(tmp_path / "one", "nvil", seed, Figure(1.0, 0.1))
    two, one = (" | ".join(notes(compare(f, VARIANCE, "reparam"))) for f in (tmp_path, tmp_path / "one"))
    assert "2 seeds: 95% t-interval over seeds of the paired log ratios" in two
    assert "says nothing of other seeds" in one
    assert "says nothing of other seeds" not in two
    assert "Holm over 1 comparison;" in one


@pytest.mark.parametrize(
    ("seeds", "line"),
    [
        (3, "too few seeds (3): sign flips reach p = 0.25 at best; 6 are needed"),
        (6, "6 seeds cannot reach 5% in 3 comparisons by sign flips: 7 are needed"),
        (7, ""),
    ],
)
def test_too_few_seeds_are_told(tmp_path: Path, seeds: int, line: str) -> None:
    for seed in range(seeds):
        for number, name in enumerate(("reparam", "stl", "dreg", "nvil")):
            commit(tmp_path, name, seed, Figure(-90.0 + number * (1 + seed), 0.1, "elbo", split="test"))
    found = [note for note in notes(compare(tmp_path, "elbo", "reparam")) if "sign flips:" in note or "too few" in note]
    assert found == ([line] if line else [])


def test_latex_is_escaped(study: Path) -> None:
    text = as_latex(compare(study, VARIANCE, "rloo", by="part"))
    body = text[text.index("\\begin{tabular}") :]
    for rule in ("\\toprule", "\\midrule", "\\bottomrule"):
        assert body.count(rule) == 1
    (row, _) = [line for line in body.splitlines() if "path=" in line]
    name = row.split(" & ")[1]
    assert name == (r"a\_b\%[path=C:\textbackslash x\_\{1\}\textasciitilde \textasciicircum \&\$\#]")
    assert "$<$.001" in body
    assert "<" not in body.replace("$<$", "")
    columns = body.splitlines()[0].split("{")[2].rstrip("}")
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert {line.replace("\\&", "").count("&") + 1 for line in rows} == {len(columns)}
    assert all(line.startswith("%") for line in text[: text.index("\\begin{tabular}")].splitlines())


def test_json_and_csv_are_the_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = compare(study, VARIANCE, "rloo")
    assert show(study, "json", metric=VARIANCE, baseline="rloo") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found == json.loads(json.dumps(as_json(table)))
    assert (found["metric"], found["baseline"], found["comparisons"]) == (VARIANCE, "rloo[k=4]", 2)
    for row, (_, whole) in zip(found["rows"], table.iterrows(), strict=True):
        assert list(row) == list(table)
        assert row["estimate"] is None if math.isnan(whole["estimate"]) else row["estimate"] == whole["estimate"]
    assert show(study, "csv", metric=VARIANCE, baseline="rloo") == 0
    rows = list(csv.DictReader(StringIO(capsys.readouterr().out)))
    assert [row["estimator"] for row in rows] == table["estimator"].to_list()
    assert [float(row["estimate"] or "nan") for row in rows] == pytest.approx(table["estimate"].to_list(), nan_ok=True)


def test_a_mistake_is_one_line_and_exit_code_2(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(study, "table", metric="elbow", baseline="rloo") == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert error.startswith("no metric 'elbow'")
