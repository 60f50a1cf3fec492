"""Measures of samples against closed forms, brute force and twins that are wrong; what a run records of them."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
import torch

import vbench
from vbench.grid import GridError, Measure
from vbench.measure.samples import classifier, discrepancy, manifolds, parzen, pictures, sample_quality
from vbench.measure.schedule import missing
from vbench.records import Store

WIDTH, SHIFT = 1.5, torch.tensor([0.7, -0.3, 0.0], dtype=torch.float64)


def normal(n, seed, shift=0.0, d=3):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d))) + shift


def true_mmd_squared():
    """Of N(0, I) and N(m, I) under a Gaussian kernel."""
    wide = WIDTH**2 + 2
    return 2 * (WIDTH**2 / wide) ** 1.5 * (1 - math.exp(-float(SHIFT.square().sum()) / (2 * wide)))


def with_diagonal(x, y, width):
    """The biased statistic, which a row's likeness to itself makes too large."""
    k = lambda a, b: (-torch.cdist(a, b).square() / (2 * width**2)).exp()  # noqa: E731
    return float(k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean())


def z_score(values, truth):
    return (np.mean(values) - truth) / (np.std(values, ddof=1) / math.sqrt(len(values)))


def test_discrepancy_is_unbiased_with_its_error():
    pairs = [(normal(40, 2 * i), normal(40, 2 * i + 1, SHIFT)) for i in range(400)]
    values, errors = zip(
        *[discrepancy.mmd_squared(discrepancy.pooled_kernel(x, y, WIDTH)) for x, y in pairs], strict=True
    )
    assert abs(z_score(values, true_mmd_squared())) < 4
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)
    assert z_score([with_diagonal(x, y, WIDTH) for x, y in pairs], true_mmd_squared()) > 10


def test_discrepancy_by_loops():
    x, y = normal(5, 0), normal(5, 1, SHIFT)
    k = lambda a, b: math.exp(-float((a - b).square().sum()) / (2 * WIDTH**2))  # noqa: E731
    n = len(x)
    own = sum(k(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = 2 * sum(k(a, b) for a in x for b in y) / n**2
    assert discrepancy.mmd_squared(discrepancy.pooled_kernel(x, y, WIDTH))[0] == pytest.approx(own - across, rel=1e-12)


def permuted(seed, shift):
    x, y = normal(20, 2 * seed), normal(20, 2 * seed + 1, shift)
    return discrepancy.permutation_p(discrepancy.pooled_kernel(x, y, WIDTH), torch.Generator().manual_seed(seed), 99)


def test_permutation_p_is_uniform_where_nothing_differs_and_small_where_it_does():
    null = np.array([permuted(seed, 0.0) for seed in range(200)])
    assert null.min() >= 0.01
    assert null.max() <= 1
    assert abs(null.mean() - 0.505) < 4 * math.sqrt(1 / 12 / 200)
    assert 1 <= (null <= 0.05).sum() <= 24  # 10 are expected
    assert np.median([permuted(seed, 1.5) for seed in range(20)]) == 0.01


def test_precision_and_recall_of_a_lost_mode():
    data = torch.cat([normal(60, 0), normal(60, 1) + 100])
    one_mode = normal(120, 2)
    precision, recall = manifolds.precision_recall(one_mode, data, 3)
    assert precision > 0.8
    assert 0.4 < recall <= 0.5
    assert manifolds.precision_recall(normal(120, 3) + 50, data, 3) == (0, 0)
    assert manifolds.precision_recall(data, data, 3) == (1, 1)


def test_precision_and_recall_by_loops():
    x, y = normal(12, 0), normal(9, 1, SHIFT)

    def inside(rows, others):
        near = 0
        for row in rows:
            reach = [sorted(float((o - other).norm()) for other in others)[2] for o in others]  # itself is the first
            near += any(float((row - o).norm()) <= r for o, r in zip(others, reach, strict=True))
        return near / len(rows)

    assert manifolds.precision_recall(x, y, 2) == (inside(x, y), inside(y, x))


def test_windows_are_a_density_and_the_best_width_is_taken():
    samples = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    density = parzen.parzen_log_density(grid, samples, 0.5).exp()
    assert float(torch.trapezoid(density, grid[:, 0])) == pytest.approx(1, abs=1e-9)
    rows = normal(50, 5, d=1)
    width = parzen.parzen_width(rows, samples, 5.0)
    assert 0.1 < width < 5
    assert parzen.parzen_log_density(rows, samples, width).mean() > parzen.parzen_log_density(rows, samples, 5.0).mean()


def test_windows_prefer_centroids_to_the_truth():
    from sklearn.cluster import KMeans

    train, test, truth = (normal(n, seed, d=20).numpy() for n, seed in ((2000, 0), (500, 1), (200, 2)))
    centroids = KMeans(200, n_init=1, random_state=0).fit(train).cluster_centers_
    found = {}
    for name, samples in (("truth", truth), ("centroids", centroids)):
        samples, rows = torch.from_numpy(samples), torch.from_numpy(test)
        found[name] = float(parzen.parzen_log_density(rows, samples, parzen.parzen_width(rows, samples, 5.0)).mean())
    exact = -10 * math.log(2 * math.pi * math.e)
    assert found["truth"] < found["centroids"] < exact


def test_frechet_distance_of_known_moments():
    x = normal(50, 0)
    assert classifier.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert classifier.frechet_distance(x, x + SHIFT) == pytest.approx(float(SHIFT.square().sum()), rel=1e-9)
    y = normal(70, 1) @ torch.tensor([[1.0, 0.5, 0], [0, 2, 0.3], [0, 0, 0.2]], dtype=torch.float64)
    a, b = (np.cov(s.numpy().T) for s in (x, y))
    apart = np.square(x.mean(0).numpy() - y.mean(0).numpy()).sum()
    brute = apart + np.trace(a + b - 2 * np.real(scipy.linalg.sqrtm(a @ b)))
    assert classifier.frechet_distance(x, y) == pytest.approx(brute, rel=1e-9)


def test_the_classifier_learns_is_one_for_all_and_leaves_no_trace(monkeypatch):
    x = torch.cat([normal(100, 0), normal(100, 1) + 4])
    labels = torch.arange(2).repeat_interleave(100)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    monkeypatch.setattr(classifier, "_STEPS", 100)
    net, again = (classifier.trained_classifier(x, labels, "data") for _ in range(2))
    other = classifier.trained_classifier(x, labels, "other data")
    assert torch.equal(torch.get_rng_state(), before)
    assert (net(x).argmax(1) == labels).double().mean() > 0.98
    assert torch.equal(net(x), again(x))
    assert not torch.equal(net(x), other(x))


@pytest.mark.parametrize("ids", [(-1, 1), (10**12, 7)])
def test_labels_are_any_whole_numbers(monkeypatch, ids):
    x = torch.cat([normal(100, 0), normal(100, 1) + 4])
    order = torch.arange(2).repeat_interleave(100)
    labels = torch.tensor(ids)[order]
    monkeypatch.setattr(classifier, "_STEPS", 100)
    net = classifier.trained_classifier(x, labels, "data")
    assert net(x).shape == (200, 2)
    assert (net.labels(x) == labels).double().mean() > 0.98
    plain = classifier.trained_classifier(x, order if ids[0] < ids[1] else 1 - order, "data")
    assert torch.equal(net(x), plain(x))


class Own(NamedTuple):
    """One's own data, which need no validation split."""

    train: torch.Tensor
    valid: torch.Tensor
    test: torch.Tensor
    labels: dict
    x: vbench.Space = vbench.Space((3,))
    digest: str = "own"
    binarization: str = "none"


def own(n_train, n_test, labels=None):
    train, test = (normal(n, seed).float() for n, seed in ((n_train, 0), (n_test, 1)))
    return Own(train, train[:0], test, labels or {})


def measured(data, samples):
    """Of standard normals, by metric and split."""
    parts = {"encoder": "gaussian[latent=2]", "decoder": "gaussian", "prior": "standard-normal"}
    model = vbench.build(dataset="linear-gaussian[dim=3]", estimator="reparam", **parts).model
    settings = {"samples": samples, "neighbors": 3, "permutations": 9, "key": 0, "device": torch.device("cpu")}
    return {(m.metric, split): m for split, m in sample_quality(model, data, **settings)}


def test_accuracy_is_of_labels_and_a_label_never_seen_is_wrong(monkeypatch):
    monkeypatch.setattr(classifier, "_STEPS", 50)
    data = own(40, 20)
    for unseen in (0, 5):
        test = torch.tensor([-1] * (20 - unseen) + [9] * unseen)
        found = measured(data._replace(labels={"train": torch.full((40,), -1), "test": test}), 20)
        assert found["classifier_accuracy", "test"].value == 1 - unseen / 20


def test_windows_are_not_chosen_on_their_own_centres():
    name = "sample_parzen_log_likelihood", "train"
    data = own(200, 100)
    best = measured(data._replace(valid=data.train[100:]), 100)[name].value
    assert measured(data, 100)[name].value == best
    assert name in measured(own(101, 100), 100)
    alone = measured(own(100, 100), 100)
    assert ("sample_mmd_squared", "train") in alone
    assert not [metric for metric, _ in alone if "parzen" in metric]


GRID = {
    "name": "pictured",
    "datasets": ["digits"],
    "encoders": [{"gaussian": {"latent": 4, "hidden": [32]}}],
    "decoders": [{"bernoulli": {"hidden": [32]}}],
    "priors": ["standard-normal"],
    "estimators": ["reparam"],
    "seeds": 1,
    "train": {"steps": 150},
    "measure": {"sample_quality": {"samples": 80, "permutations": 19}},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert not vbench.run(GRID, results=folder, workers=0).failed
    return folder / "pictured"


MEASURED = {
    *("sample_mmd_squared", "sample_mmd_p", "sample_precision", "sample_recall"),
    *("sample_parzen_log_likelihood", "sample_frechet"),
}


def test_a_run_records_samples_beside_training_data(study):
    records = vbench.load(study)
    for split in ("simulated", "train"):
        rows = records[(records["split"] == split) & records["metric"].isin(MEASURED)].set_index("metric")
        assert set(rows.index) == MEASURED
        assert rows.loc["sample_mmd_squared", "n"] == 80
        assert np.isfinite(rows["value"].to_numpy()).all()
    told = records.set_index(["metric", "split"])["value"]
    assert 0.5 < told["classifier_accuracy", "test"] <= 1
    # after so few steps samples are poor, and each ruler says so
    assert told["sample_frechet", "simulated"] > 2 * told["sample_frechet", "train"]
    assert told["sample_mmd_squared", "simulated"] > told["sample_mmd_squared", "train"]


def test_pictures_are_kept_and_drawn(study):
    import io

    import matplotlib.image

    store = Store(study)
    (kept,) = store.pictures(store.outcomes()).values()
    assert set(kept) == {"samples", "reconstructions"}
    picture = matplotlib.image.imread(io.BytesIO(kept["samples"]))
    assert picture.shape == (6 * 9, 6 * 9)
    for draw in (vbench.plot.samples, vbench.plot.reconstructions, vbench.plot.sample_quality):
        assert draw(study)
    with pytest.raises(LookupError, match="no pictures of samples"):
        vbench.plot.samples((vbench.load(study), vbench.load(study, "cells")))


def test_a_picture_is_of_what_the_decoder_draws():
    parts = {
        "encoder": "gaussian[latent=2]",
        "decoder": "bernoulli",
        "prior": "standard-normal",
        "estimator": "reparam",
    }
    cell = vbench.build(dataset="bernoulli-bars", **parts)
    found = pictures(cell.model, cell.data, posterior=False, key=0, device=torch.device("cpu"))
    assert set(found) == ({"samples"} if len(cell.data.x.shape) > 1 else set())


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"dataset": "linear-gaussian", "decoder": "gaussian"}, ""),
        ({"dataset": "digits", "decoder": "bernoulli"}, ""),
    ],
)
def test_what_generates_is_measured(parts, why):
    cell = vbench.build(encoder="gaussian[latent=2]", prior="standard-normal", estimator="reparam", **parts)
    settings = Measure.model_validate({"sample_quality": {}})
    assert missing(cell, settings).get("sample_quality", "") == why


def test_what_does_not_is_not(monkeypatch):
    cell = vbench.build(
        dataset="digits",
        encoder="gaussian[latent=2]",
        decoder="bernoulli",
        prior="standard-normal",
        estimator="reparam",
    )

    def forward(self, z, batch, model):
        raise TypeError("a batch is needed")

    monkeypatch.setattr(type(cell.model.decoder), "forward", forward)
    told = missing(cell, Measure.model_validate({"sample_quality": {}}))["sample_quality"]
    assert told == "needs data that the model makes, and it makes none: TypeError a batch is needed"


def test_settings_are_read_and_leave_older_keys_alone():
    assert "sample_quality" not in Measure().model_dump()
    with pytest.raises(GridError, match="neighbors"):
        vbench.run(GRID | {"measure": {"sample_quality": {"neighbours": 3}}})


def test_pictures_are_no_part_of_the_tables(study):
    assert not [name for name in vbench.load(study, "cells") if "picture" in name]
    assert isinstance(vbench.load(study), pd.DataFrame)


def test_a_page_shows_them_and_holds_against_the_records(study, tmp_path):
    from vbench.report import reporting

    assert reporting.report(study, tmp_path) == 0
    assert {"samples.svg", "reconstructions.svg", "sample-quality.svg"} <= {f.name for f in tmp_path.rglob("*.svg")}
    assert reporting.check(study, tmp_path) == 0
