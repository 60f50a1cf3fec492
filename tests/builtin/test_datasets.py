"""Datasets: what they hold and how they are cut."""

import gzip
import hashlib
import inspect
import os
import struct
from typing import get_args

import annotated_types
import numpy as np
import pytest
import torch
from scipy.io import savemat

from vbench.batches import fixed_batches
from vbench.builtin.datasets import files
from vbench.builtin.datasets.bernoulli_bars import bernoulli_bars
from vbench.builtin.datasets.digits import digits
from vbench.builtin.datasets.files import SOURCES, DataError, File
from vbench.builtin.datasets.frey import frey
from vbench.builtin.datasets.idx import parse_idx
from vbench.builtin.datasets.linear_gaussian import linear_gaussian
from vbench.builtin.datasets.mnist import mnist
from vbench.builtin.datasets.tensors import TensorDataset, fingerprint, permutation
from vbench.types import Dataset, Space

FACTORIES = [bernoulli_bars, digits, frey, linear_gaussian, mnist]
EMBEDDED = [bernoulli_bars, digits, linear_gaussian]
SPLITS = ("train", "valid", "test")

real = pytest.mark.skipif("VBENCH_DATA" not in os.environ, reason="needs the real files: set VBENCH_DATA")


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def publish(monkeypatch, root, dataset, contents):
    """Put contents where a dataset is looked for, and expect them."""
    monkeypatch.setenv("VBENCH_DATA", str(root))
    (root / dataset).mkdir(exist_ok=True)
    expected = []
    for name, data in contents.items():
        raw = gzip.compress(data) if name.endswith(".gz") else data
        (root / dataset / name).write_bytes(raw)
        expected.append(File(name, hashlib.sha256(data).hexdigest(), len(data), ()))
    monkeypatch.setattr(files, "SOURCES", {dataset: tuple(expected)})


@pytest.fixture
def small_mnist(monkeypatch, tmp_path):
    """MNIST of 60 and 10 rows; call with the value of one pixel to publish it."""

    def make(pixel=0):
        values = np.random.default_rng(0).integers(0, 256, (70, 28, 28), np.uint8)
        values[3, 0, 0] = pixel
        labels = np.arange(70, dtype=np.uint8) % 10
        contents = {
            "train-images-idx3-ubyte.gz": idx(values[:60]),
            "train-labels-idx1-ubyte.gz": idx(labels[:60]),
            "t10k-images-idx3-ubyte.gz": idx(values[60:]),
            "t10k-labels-idx1-ubyte.gz": idx(labels[60:]),
        }
        publish(monkeypatch, tmp_path, "mnist", contents)
        return values, labels

    return make


def rows(data, split):
    return {row.numpy().tobytes() for row in getattr(data, split)}


@pytest.mark.parametrize("factory", FACTORIES)
def test_parameters_have_defaults_help_and_limits(factory):
    for parameter in inspect.signature(factory, eval_str=True).parameters.values():
        kind, *notes = get_args(parameter.annotation)
        assert parameter.default is not parameter.empty
        assert isinstance(notes[-1], str)
        assert "\n" not in notes[-1]
        assert kind not in (int, float) or any(isinstance(n, annotated_types.BaseMetadata) for n in notes)
    assert "Source:" in factory.__doc__
    assert factory.__doc__.splitlines()[0].endswith(".")


@pytest.mark.parametrize("factory", EMBEDDED)
def test_embedded_data_are_datasets_and_always_the_same(factory):
    first, second = factory(), factory()
    assert isinstance(first, Dataset)
    assert first.digest == second.digest
    assert len(bytes.fromhex(first.digest)) == 32
    assert all(torch.equal(getattr(first, split), getattr(second, split)) for split in SPLITS)


def test_digits_are_grey_shuffled_and_cut():
    data = digits()
    assert [len(getattr(data, split)) for split in SPLITS] == [1297, 200, 300]
    assert data.x == Space((8, 8), "binary")
    assert data.digest == "a83b5b4029000d833b29bf063f8a2b2f0ce22c93769925bc4120da3fbb75f7da"
    assert data.train.unique().tolist() == [round(v * 255 / 16) for v in range(17)]
    assert len(data.labels["train"].unique()) == 10
    assert not rows(data, "train") & (rows(data, "valid") | rows(data, "test"))


def test_digits_keep_their_labels():
    from sklearn.datasets import load_digits

    scans = load_digits()
    grey = np.rint(scans.images * 255 / 16).astype(np.uint8)
    known = {image.tobytes(): label for image, label in zip(grey, scans.target, strict=True)}
    data = digits()
    for split in SPLITS:
        pairs = zip(getattr(data, split), data.labels[split], strict=True)
        assert all(known[image.numpy().tobytes()] == label for image, label in pairs)


def test_binarization_is_no_part_of_the_digest():
    assert digits("fixed").digest == digits("dynamic").digest
    assert digits("fixed").binarization == "fixed"


@pytest.mark.parametrize(
    ("factory", "change"),
    [
        (linear_gaussian, {"n": 999}),
        (linear_gaussian, {"dim": 7}),
        (linear_gaussian, {"latent": 3}),
        (linear_gaussian, {"noise": 0.25}),
        (linear_gaussian, {"seed": 1}),
        (bernoulli_bars, {"n": 999}),
        (bernoulli_bars, {"side": 3}),
        (bernoulli_bars, {"rate": 0.5}),
        (bernoulli_bars, {"flip": 0.1}),
        (bernoulli_bars, {"seed": 1}),
    ],
)
def test_other_parameters_make_other_data_and_digests(factory, change):
    one, other = factory(), factory(**change)
    assert one.digest != other.digest
    assert one.train.shape != other.train.shape or not torch.equal(one.train, other.train)


def test_small_mnist_is_cut_as_asked(small_mnist):
    values, labels = small_mnist()
    data = mnist(valid=20)
    assert isinstance(data, Dataset)
    assert np.array_equal(data.train.numpy(), values[:40])
    assert np.array_equal(data.valid.numpy(), values[40:60])
    assert np.array_equal(data.test.numpy(), values[60:])
    assert np.array_equal(torch.cat([data.labels[split] for split in SPLITS]).numpy(), labels)


def test_mnist_digest_changes_with_content_and_split_only(small_mnist, tmp_path):
    small_mnist(pixel=1)
    digest = mnist(valid=20).digest
    assert mnist(valid=21).digest != digest
    for path in (tmp_path / "mnist").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert mnist("fixed", valid=20).digest == digest
    small_mnist(pixel=2)
    assert mnist(valid=20).digest != digest


def test_mnist_with_nothing_to_train_on_is_refused(small_mnist):
    small_mnist()
    with pytest.raises(DataError, match="at least one row"):
        mnist(valid=60)


@real
def test_mnist_is_mnist():
    data = mnist()
    assert [len(getattr(data, split)) for split in SPLITS] == [50_000, 10_000, 10_000]
    assert data.labels["train"][:5].tolist() == [5, 0, 4, 1, 9]
    assert data.labels["test"][:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train.float().mean() / 255 == pytest.approx(0.1306, abs=5e-4)
    assert not rows(data, "train") & (rows(data, "valid") | rows(data, "test"))
    assert len(mnist(valid=400).train) == 59_600


def test_frey_takes_columns_as_frames_written_row_by_row(monkeypatch, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (12, 28, 20), np.uint8)
    savemat(tmp_path / "frey.mat", {"ff": frames.reshape(12, 560).T})
    publish(monkeypatch, tmp_path, "frey", {"frey_rawface.mat": (tmp_path / "frey.mat").read_bytes()})
    data = frey(valid=3, test=4)
    assert [len(getattr(data, split)) for split in SPLITS] == [5, 3, 4]
    assert set.union(*(rows(data, split) for split in SPLITS)) == {frame.tobytes() for frame in frames}
    assert frey(valid=4, test=3).digest != data.digest
    with pytest.raises(DataError, match="leave none of 12 faces"):
        frey(valid=6, test=6)


@real
def test_frey_is_frey():
    data = frey()
    assert [len(getattr(data, split)) for split in SPLITS] == [1565, 200, 200]
    assert not rows(data, "train") & (rows(data, "valid") | rows(data, "test"))
    batch = next(fixed_batches(data, "test", 200, key=0))
    assert 0 <= batch.x.min() < batch.x.max() <= 1
    # a face: forehead brighter than eyes, neighbours in a column alike
    assert batch.x[:, 3:5, 6:14].mean() > batch.x[:, 7:9, 4:8].mean() + 0.1
    assert (batch.x[:, 1:] - batch.x[:, :-1]).abs().mean() < 0.1


IMAGES = idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


def test_idx_round_trip():
    assert torch.equal(parse_idx(IMAGES, 3), torch.arange(24, dtype=torch.uint8).view(2, 3, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "magic"),
        (b"\x00\x00\x09" + IMAGES[3:], "magic 00000903, not 00000803"),
        (idx(np.zeros(3, np.uint8)), "magic 00000801"),
        (gzip.compress(IMAGES, mtime=0), "magic 1f8b"),
        (IMAGES[:9], "header is cut off"),
        (IMAGES[:-1], "has 39 bytes, expected 40"),
        (IMAGES + b"\x00", "has 41 bytes, expected 40"),
    ],
)
def test_idx_refuses_what_is_cut_off_or_something_else(data, message):
    with pytest.raises(DataError, match=message):
        parse_idx(data, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": torch.zeros(0, 2, dtype=torch.uint8)}, "at least one row"),
        ({"test": torch.zeros(4, 3, dtype=torch.uint8)}, r"test has shape \(4, 3\)"),
        ({"train": torch.zeros(4, 2)}, "needs bytes"),
        ({"labels": {"train": torch.zeros(3)}}, "4 rows and 3 labels"),
        ({"masks": {"valid": torch.ones(4, 1)}}, "its mask"),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(change, message):
    split = torch.zeros(4, 2, dtype=torch.uint8)
    good = {
        "train": split,
        "valid": split,
        "test": split,
        "x": Space((2,)),
        "digest": "",
        "binarization": "dynamic",
    }
    TensorDataset(**good)
    with pytest.raises(DataError, match=message):
        TensorDataset(**good | change)


def test_fingerprints_tell_parts_apart():
    known = [("ab", "c"), ("a", "bc"), ("abc",), (b"abc",), (1,), (1.0,), ("1",), ("1", 1)]
    assert len({fingerprint(*parts) for parts in known}) == len(known)


def test_permutations_are_fixed():
    order = permutation(1000, "digits")
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert order[:3].tolist() == [444, 369, 422]
    assert not torch.equal(order, permutation(1000, "frey"))


def test_static_mnist_are_the_files_of_larochelle_and_murray(monkeypatch, tmp_path):
    bits = np.random.default_rng(1).integers(0, 2, (60, 28, 28), np.uint8)

    def amat(rows):
        return "".join(" ".join(map(str, row.ravel())) + "\n" for row in rows).encode()

    cut = {"train": bits[:40], "valid": bits[40:50], "test": bits[50:]}
    names = {f"binarized_mnist_{split}.amat": amat(rows) for split, rows in cut.items()}
    publish(monkeypatch, tmp_path, "binarized-mnist", names)
    data = mnist("static", valid=10)
    for split, rows in cut.items():
        batch = next(fixed_batches(data, split, 60, key=0))
        assert torch.equal(batch.x, torch.from_numpy(rows).float())
    assert (data.binarization, data.x, data.labels) == ("static", Space((28, 28), "binary"), {})
    assert len(mnist("static", valid=4).train) == 46
    assert [file.size for file in SOURCES["binarized-mnist"]] == [rows * 784 * 2 for rows in (50_000, 10_000, 10_000)]
