"""What is committed is what is read, as records and as cells."""

import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vbench.grid import Inner, Train
from vbench.records import STATUSES, Outcome, Row, Store, load

LABELS = {"dataset": "digits", "encoder": "gaussian[latent=8]", "estimator": "iwae[k=5]"}
ROW = Row(10, "test", "elbo", "all", -80.5, 0.25, 100, "nats")


def outcome(key="ab12", status="done", **fields):
    return Outcome(key, status, fields.pop("reason", ""), LABELS, fields.pop("seed", 0), **fields)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "study")


int64 = st.integers(-(2**63) + 1, 2**63 - 1)
rows = st.lists(
    st.builds(
        Row,
        *(int64, st.text(), st.text(min_size=1), st.text()),
        *(st.floats(), st.none() | st.floats(), st.none() | int64, st.text()),
    )
)


@settings(deadline=None, max_examples=25)
@given(rows=rows)
def test_rows_survive_unchanged(rows, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("s") / "stüdy")
    store.commit(outcome(), rows)
    back = store.records()
    for kept, row in zip(back[list(Row._fields)].itertuples(index=False), rows, strict=True):
        for value, expected in zip(kept, row, strict=True):
            missing = expected is None or expected != expected
            assert pd.isna(value) if missing else value == expected
    assert store.damaged == []
    assert (back["study"] == "stüdy").all()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=25)
@given(
    spec=st.dictionaries(st.text(), json_values),
    status=st.sampled_from(STATUSES),
    reason=st.text(),
    seed=st.integers(0, 2**63 - 1),
)
def test_outcomes_survive_unchanged(spec, status, reason, seed, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("s") / "study")
    given = outcome(status=status, reason=reason, seed=seed, spec=spec, facts={"nan": math.inf}, traceback="é")
    store.commit(given)
    assert store.outcomes() == {"ab12": given}
    assert len(store.cells()) == 1
    store.compact()
    pd.testing.assert_frame_equal(pd.read_parquet(store.folder / "cells.parquet"), store.cells())


def test_a_record_is_plain_parquet(store):
    for i, n in enumerate((2, 0, 1)):
        store.commit(outcome(f"ab{i:02}", seed=i), [ROW._replace(step=j, value=math.nan) for j in range(n)])
    whole = pd.read_parquet(store.folder / "records")
    pd.testing.assert_frame_equal(whole.astype({"n": "Int64"}), store.records(), check_categorical=False)
    columns = "study cell dataset encoder decoder prior train estimator seed step split metric part value"
    assert list(whole) == [*columns.split(), "std_error", "n", "unit"]


def test_cells_have_a_column_per_parameter_fact_and_source(store):
    plugins = [{"name": "vbench", "version": "1.0", "digest": "f00"}]
    provenance = {"plugins": plugins, "code": "abc", "environment": {"threads": 1}}
    encoder = {"name": "gaussian", "parameters": {"hidden": [64]}}
    spec = {"estimator": {"k": 5}, "encoder": encoder, "train": {"lr": 1e-3}}
    store.commit(outcome("aaa", spec=spec, facts={"bound": "iwae", "stale": "code"}, provenance=provenance))
    store.commit(outcome("bbb", "failed", reason="boom", spec={"estimator": {"k": 7}, "train": {"lr": 1}}))
    store.commit(outcome("ccc", "skipped", spec={"train": {"lr": "auto"}}))
    cells = store.cells().set_index("cell")
    assert cells.loc["aaa", ["plugins", "code", "stale", "bound"]].to_list() == [
        "vbench==1.0",
        "abc",
        "code",
        "iwae",
    ]
    assert cells["estimator.k"].dtype == "Int64"
    assert cells["environment.threads"].to_list() == [1, pd.NA, pd.NA]
    assert cells.loc["aaa", ["encoder.name", "encoder.hidden"]].to_list() == ["gaussian", "[64]"]
    assert cells["train.lr"].to_list() == ["0.001", "1", "auto"]  # mixed: text
    assert cells.loc["bbb", ["status", "reason"]].to_list() == ["failed", "boom"]
    assert cells["encoder"].dtype == "category"


def test_no_cell_is_lost_to_a_grouping_by_a_setting_that_only_others_have(store):
    plain, written = Train(), Train(schedule="cosine", warmup=10, inner=Inner())
    for key, train in ("aaa", plain), ("bbb", written):
        store.commit(outcome(key, spec={"train": train.model_dump(mode="json")}))
    cells = store.cells().set_index("cell")
    assert cells[["train.schedule", "train.warmup"]].to_numpy().tolist() == [["constant", 0], ["cosine", 10]]
    assert cells.groupby("train.schedule").size().sum() == 2
    assert cells["train.warmup"].dtype == "int64"
    assert cells["train.inner.part"].isna().to_list() == [True, False]  # there is none


def test_attempts_accumulate_and_done_counts(store):
    paths = [store.commit(outcome(status=s), [ROW] * (s == "done")) for s in ("failed", "done", "interrupted")]
    assert [path.name for path in paths] == [f"ab12.{i}.parquet" for i in range(3)]
    assert (store.outcomes()["ab12"].status, store.outcomes()["ab12"].attempt) == ("done", 1)
    store.commit(outcome(), [ROW._replace(value=1.0)])
    assert store.records()["value"].to_list() == [1.0]
    store.commit(outcome("cd12", "failed"))
    store.commit(outcome("cd12", "timeout"))
    assert store.outcomes()["cd12"].status == "timeout"


def test_eleven_attempts_are_counted_as_numbers(store):
    for i in range(11):
        store.commit(outcome(status="failed", reason=str(i)))
    assert store.outcomes()["ab12"].reason == "10"


def test_load_joins_cells(store):
    store.commit(outcome("aaa", spec={"estimator": {"k": 5}}), [ROW, ROW])
    store.commit(outcome("bbb", "diverged", spec={"estimator": {"k": None}}), [ROW])
    frame = load(store.folder, columns=["status", "estimator.k"])
    assert frame["status"].to_list() == ["done", "done", "diverged"]
    assert frame["estimator.k"].to_list() == [5, 5, pd.NA]
    assert frame[["status", "estimator"]].dtypes.to_list() == ["category", "category"]
    assert load(str(store.folder), "cells")["status"].to_list() == ["done", "diverged"]
    with pytest.raises(ValueError, match=r"did you mean 'estimator\.k'"):
        load(store.folder, columns=["estimater.k"])
    with pytest.raises(ValueError, match="unknown table"):
        load(store.folder, "rows")


def test_no_results_is_one_clear_line(tmp_path, store):
    with pytest.raises(FileNotFoundError, match=r"no results in .*nothing"):
        load(tmp_path / "nothing")
    assert store.records().empty
    assert store.cells().empty
    assert store.sweep() == 0


@pytest.mark.parametrize(
    "bad",
    [
        *({"value": v} for v in (1j, None, "x", [1.0, 2.0])),
        *({"n": v} for v in (1.5, 2**63, "3")),
        *({"step": None}, {"metric": 3}, {"unit": "\ud800"}, {"std_error": "small"}),
    ],
    ids=repr,
)
def test_a_bad_value_names_its_metric_and_leaves_nothing(store, bad):
    with pytest.raises(TypeError, match=f"metric {bad.get('metric', 'elbo')!r}"):
        store.commit(outcome(), [ROW._replace(**bad)])
    assert not store.folder.exists()


def test_numpy_scalars_are_numbers(store):
    import numpy as np

    row = ROW._replace(step=np.int64(3), value=np.float32(0.5), n=np.int32(7))
    store.commit(outcome(facts={"seconds": np.float64(1), "evaluations": np.int64(9)}), [row])
    assert store.cells()[["seconds", "evaluations"]].to_numpy().tolist() == [[1.0, 9]]
    with pytest.raises(TypeError, match=r"object .* cannot be recorded"):
        store.commit(outcome(facts={"seconds": object()}))


@pytest.mark.parametrize("key", ["../../x", "a/b", "", "a.b", "ab\0", "é" * 5, "a" * 300])
def test_a_key_is_never_a_path(key):
    with pytest.raises(ValueError, match="key"):
        outcome(key)


def test_an_unknown_status_is_refused():
    with pytest.raises(ValueError, match="unknown status 'ok'"):
        outcome(status="ok")


def test_a_later_schema_is_refused_by_name(store, monkeypatch):
    monkeypatch.setattr("vbench.attempts.SCHEMA_VERSION", 2)
    store.commit(outcome())
    monkeypatch.undo()
    assert store.outcomes() == {}
    assert "schema 2" in store.damaged[0][1]


def test_reading_the_schema_costs_no_heavy_import():
    heavy = "[m for m in ('torch', 'pandas', 'pyarrow', 'numpy') if m in sys.modules]"
    code = f"import vbench.records, sys; sys.exit(repr({heavy}) if {heavy} else 0)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_study_is_named_after_its_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = Store(Path())
    store.commit(outcome(), [ROW])
    assert store.records()["study"].to_list() == ["here"]
