"""Own arrays: what is read, how it is cut, what is refused, and that the judge agrees."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from vbench.assemble import build, load_dataset
from vbench.beside import Beside, use
from vbench.builtin.datasets.files import DataError
from vbench.builtin.datasets.npz import npz
from vbench.builtin.datasets.tensors import TensorDataset
from vbench.grid import parse_choice
from vbench.grid.positions import quoted
from vbench.listing import load_catalogue
from vbench.testing import Verdict, check
from vbench.testing.judging import checks_of
from vbench.testing.subject import registered
from vbench.testing.verdict import run_checks
from vbench.types import Space

DRAW = np.random.default_rng(0)
BITS = DRAW.integers(0, 2, (50, 6)).astype(np.uint8)
GREYS = DRAW.integers(0, 256, (50, 4, 5)).astype(np.uint8)
UNITS = DRAW.random((50, 6))
REALS = DRAW.normal(size=(50, 6))


def written(folder: Path, **arrays: object) -> Path:
    np.savez(folder / "own.npz", **arrays)  # type: ignore[arg-type]
    return folder / "own.npz"


def read(folder: Path, **parameters: object) -> TensorDataset:
    return npz(folder, "own.npz", **parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("train", "x", "dtype", "binarization", "note"),
    [
        (BITS, Space((6,), "binary"), torch.float32, "none", "binary"),
        (BITS.astype(bool), Space((6,), "binary"), torch.float32, "none", "binary"),
        (GREYS, Space((4, 5), "binary"), torch.uint8, "dynamic", "bytes"),
        (UNITS, Space((6,), "unit"), torch.float32, "none", "unit"),
        (REALS, Space((6,), "real"), torch.float32, "none", "real"),
        (REALS.astype(np.float16), Space((6,), "real"), torch.float32, "none", "real"),
        (GREYS.astype(np.int64), Space((4, 5), "real"), torch.float32, "none", "real"),
    ],
    ids=["bits", "truths", "greys", "units", "reals", "halves", "integers"],
)
def test_what_the_values_are_is_seen(tmp_path: Path, train, x, dtype, binarization, note) -> None:
    written(tmp_path, train=train)
    found = read(tmp_path)
    assert (found.x, found.train.dtype, found.binarization) == (x, dtype, binarization)
    assert found.notes.startswith(f"{note} by its values")


def test_bytes_that_are_not_binarised_are_numbers_between_0_and_1(tmp_path: Path) -> None:
    written(tmp_path, train=GREYS)
    found = read(tmp_path, binarization="none")
    assert (found.x.support, found.binarization, found.train.dtype) == ("unit", "none", torch.uint8)


def test_what_is_declared_must_fit(tmp_path: Path) -> None:
    written(tmp_path, train=UNITS)
    assert read(tmp_path, support="real").x.support == "real"
    assert "as declared" in read(tmp_path, support="unit").notes
    for support in ("binary", "bytes"):
        with pytest.raises(DataError, match=rf"npz: own.npz: not {support}: its values are float64 from 0\.\d+ to 0\."):
            read(tmp_path, support=support)
    written(tmp_path, train=REALS)
    with pytest.raises(DataError, match="not unit"):
        read(tmp_path, support="unit")


def test_one_split_beyond_the_others_decides(tmp_path: Path) -> None:
    written(tmp_path, train=UNITS, test=UNITS + 3)
    assert read(tmp_path).x.support == "real"


def test_splits_of_the_file_are_left_as_they_are(tmp_path: Path) -> None:
    labels = np.arange(50)
    written(tmp_path, train=REALS, valid=REALS[:7] + 1, test=REALS[:9] + 2, train_labels=labels, test_labels=labels[:9])
    found = read(tmp_path)
    assert torch.equal(found.train, torch.tensor(REALS, dtype=torch.float32))
    assert torch.equal(found.valid, torch.tensor(REALS[:7] + 1, dtype=torch.float32))
    assert len(found.test) == 9
    assert {split: len(rows) for split, rows in found.labels.items()} == {"train": 50, "test": 9}
    assert found.notes == "real by its values"


def test_lacking_splits_are_cut_from_train_and_told(tmp_path: Path) -> None:
    written(tmp_path, train=REALS, train_labels=np.arange(50))
    found = read(tmp_path, held_out=0.2)
    assert [len(found.train), len(found.valid), len(found.test)] == [30, 10, 10]
    rows = torch.cat([found.train, found.valid, found.test])
    own = torch.tensor(REALS, dtype=torch.float32)
    numbers = torch.cat([found.labels[split] for split in ("train", "valid", "test")])
    assert torch.equal(rows, own[numbers])  # labels went with their rows
    assert sorted(numbers.tolist()) == list(range(50))
    assert found.labels["train"].tolist() == sorted(found.labels["train"].tolist())
    assert "valid is 10 of 50 rows of train, by permutation 0; test is 10 of 50" in found.notes


def test_a_test_split_of_the_file_stays_when_valid_is_cut(tmp_path: Path) -> None:
    written(tmp_path, train=REALS, test=REALS[:3])
    found = read(tmp_path)
    assert [len(found.train), len(found.valid), len(found.test)] == [45, 5, 3]
    assert "test" not in found.notes


def test_the_cut_is_the_same_each_time_and_another_by_another_seed(tmp_path: Path) -> None:
    written(tmp_path, train=REALS)
    first, again, other = read(tmp_path), read(tmp_path), read(tmp_path, seed=1)
    assert torch.equal(first.valid, again.valid)
    assert first.digest == again.digest
    assert not torch.equal(first.valid, other.valid)
    assert first.digest != other.digest


def test_the_digest_knows_every_value_name_and_type(tmp_path: Path) -> None:
    def digest(**arrays: object) -> str:
        written(tmp_path, **arrays)
        return read(tmp_path).digest

    changed = BITS.copy()
    changed[3, 2] ^= 1
    base = {"train": BITS, "valid": BITS[:5], "test": BITS[:5]}
    variants: list[dict[str, object]] = [
        base,
        base | {"train": changed},
        base | {"test": changed[:5]},
        {name: array.astype(np.int8) for name, array in base.items()},
        base | {"train_labels": np.zeros(50, int)},
        base | {"valid": BITS[:4]},
        {"train": BITS},
    ]
    assert len({digest(**arrays) for arrays in variants}) == len(variants)
    assert digest(**base) == digest(**base)


def test_packing_does_not_change_the_digest(tmp_path: Path) -> None:
    written(tmp_path, train=REALS)
    plain = read(tmp_path).digest
    np.savez_compressed(tmp_path / "own.npz", train=REALS)
    assert read(tmp_path).digest == plain


def test_a_pinned_file_is_checked(tmp_path: Path) -> None:
    import hashlib

    file = written(tmp_path, train=REALS)
    right = hashlib.sha256(file.read_bytes()).hexdigest()
    assert read(tmp_path, sha256=right.upper()).digest == read(tmp_path).digest
    with pytest.raises(DataError, match=r"has SHA-256 .*, expected 00"):
        read(tmp_path, sha256="00")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


def evil(folder: Path) -> None:
    written(folder, train=np.array([Evil()], dtype=object))


def evil_by_hand(folder: Path) -> None:
    with zipfile.ZipFile(folder / "own.npz", "w") as file:
        file.writestr("train.npy", pickle.dumps(Evil()))


@pytest.mark.parametrize("write", [evil, evil_by_hand])
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    with pytest.raises(DataError, match=r"npz: own.npz.*(is no .npz file of plain arrays|expected numbers)"):
        read(tmp_path)
    assert not (tmp_path / "unpickled").exists()


def bomb(folder: Path) -> None:
    with zipfile.ZipFile(folder / "own.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train.npy", b"\0" * 100_000)


def cut(folder: Path) -> None:
    file = written(folder, train=REALS)
    file.write_bytes(file.read_bytes()[:-100])


def damaged(folder: Path) -> None:
    np.savez_compressed(folder / "own.npz", train=REALS)
    data = bytearray((folder / "own.npz").read_bytes())
    data[200] ^= 255
    (folder / "own.npz").write_bytes(data)


def of_one_array(folder: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, REALS)
    (folder / "own.npz").write_bytes(stream.getvalue())


@pytest.mark.parametrize(
    "write", [cut, damaged, of_one_array, bomb, lambda folder: (folder / "own.npz").write_text("no")]
)
def test_a_broken_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write) -> None:
    monkeypatch.setattr("vbench.builtin.datasets.npz._LARGEST", 50_000)
    write(tmp_path)
    with pytest.raises(DataError, match=r"npz: own.npz is no .npz file of plain arrays") as caught:
        read(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"trian": REALS}, "holds 'trian' (did you mean 'train'?)"),
        ({"train": REALS, "weights": REALS}, "holds 'weights', expected train, valid"),
        ({"test": REALS}, "holds no array 'train'"),
        ({"train": np.array(["a", "b"])}, "train is <U1 [2], expected numbers"),
        ({"train": REALS + 1j}, "train is complex128 [50, 6], expected numbers"),
        ({"train": np.arange(50)}, "train is int64 [50], expected at least one row"),
        ({"train": np.zeros((0, 3))}, "expected at least one row"),
        ({"train": np.zeros((3, 0))}, "expected at least one row"),
        ({"train": REALS, "test": REALS[:, :5]}, "test is float64 [50, 5], expected float64 [n, 6], as train"),
        ({"train": REALS, "test": REALS.astype("f4")}, "test is float32 [50, 6], expected float64 [n, 6], as train"),
        ({"train": np.full((9, 2), np.nan)}, "some of it is not finite"),
        ({"train": REALS, "train_labels": np.arange(49)}, "expected a whole number for each row of train"),
        ({"train": REALS, "train_labels": np.arange(50.0)}, "expected a whole number for each row of train"),
        ({"train": REALS, "test_labels": np.arange(50)}, "expected a whole number for each row of test"),
        ({"train": REALS[:4]}, "4 rows of train are too few to cut valid and test from them"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, arrays: dict[str, object], told: str) -> None:
    written(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    text = str(caught.value)
    assert text.startswith("npz: own.npz")
    assert told in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("path", ["gone.npz", ".", "a\0b.npz", "x" * 5000])
def test_a_path_that_is_no_file_is_one_line(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="npz: cannot read"):
        npz(tmp_path, path)


def test_a_path_begins_at_the_grid_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, train=UNITS)
    choice = parse_choice("npz[path=own.npz]", "dataset", load_catalogue())
    try:
        use(Beside(str(tmp_path)))
        first = load_dataset(choice)
        assert load_dataset(choice) is first
        written(tmp_path, train=REALS[:40])
        assert load_dataset(choice).digest != first.digest
        parts = {"encoder": "gaussian[latent=2,hidden=[4]]", "decoder": "gaussian[hidden=[4]]"}
        built = build(dataset="npz[path=own.npz]", prior="standard-normal", estimator="reparam", **parts)
        assert len(built.data.train) == 32
    finally:
        use(Beside())


@pytest.mark.parametrize("train", [BITS, GREYS, UNITS, REALS], ids=["bits", "greys", "units", "reals"])
def test_the_judge_passes_it(tmp_path: Path, train) -> None:
    file = written(tmp_path, train=train)
    found = {result.name: result for result in check("dataset", f"npz[path={quoted(str(file))}]")}
    assert len(found) >= 5
    assert {result.verdict for result in found.values()} == {Verdict.PASS}, found


def test_the_judge_fails_a_file_whose_test_rows_are_training_rows(tmp_path: Path) -> None:
    file = written(tmp_path, train=REALS, valid=REALS[:20], test=REALS[:20])
    found = {result.name: result for result in check("dataset", f"npz[path={quoted(str(file))}]")}
    assert found["splits"].verdict is Verdict.FAIL


def test_the_judge_asks_for_a_file() -> None:
    (subject,) = (s for s in registered(distribution="vbench") if s.name == "npz")
    found = {result.name: result for result in run_checks(checks_of(subject))}
    assert found.pop("source").verdict is Verdict.PASS
    assert {result.verdict for result in found.values()} == {Verdict.INCONCLUSIVE}
    assert "NAME[path=...]" in found["shapes"].figure
