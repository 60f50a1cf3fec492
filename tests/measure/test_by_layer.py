"""The variance of each layer: by both engines, as plain gradients have it, and nobody else's."""

import math

import pytest
import torch

from tests import toys
from tests.measure.test_draws import BUILT_IN
from tests.measure.test_moments import gradient, layers_of
from tests.measure.toys import value_of
from vbench.estimators.iwae import iwae
from vbench.estimators.reinforce import reinforce
from vbench.measure import draws
from vbench.measure.gradient_metrics import gradient_measurements
from vbench.measure.gradients import gradient_moments
from vbench.measure.truth import bound_truth
from vbench.rng import Rng, derive

KEY = 5


def deviation(one, other):
    """The largest difference of two measurements of the same layers, in its errors."""
    assert one.variance.keys() == other.variance.keys()
    layers = [part for part in one.variance if "." in part]
    assert len(layers) > 3
    errors = {part: math.hypot(one.std_error[part], other.std_error[part]) for part in layers}
    assert all(errors[part] < 0.2 * other.variance[part] for part in layers)
    return max(abs(one.variance[part] - other.variance[part]) / errors[part] for part in layers)


# reinforce moves the decoder's two layers alike, 10% apart in variance: to swap them shows less
@pytest.mark.parametrize(("name", "shown"), [("iwae", 8), ("dreg", 8), ("reinforce", 4)])
def test_both_engines_tell_the_same_and_swapped_layers_are_seen(name, shown, monkeypatch):
    estimator, build = BUILT_IN[name]
    model, batch = build(), toys.batch(size=20)
    draw = gradient_moments(model, estimator, batch, draws=1000, key=2, method="vmap", layers=True)
    datum = gradient_moments(model, estimator, batch, draws=1000, key=1, method="moments", layers=True)
    assert deviation(datum, draw) < 4
    (first, second), right = ("decoder.net.0", "decoder.net.2"), draws._layer
    swapped = {first: second, second: first}
    monkeypatch.setattr(draws, "_layer", lambda name: swapped.get(right(name), right(name)))
    wrong = gradient_moments(model, estimator, batch, draws=1000, key=1, method="moments", layers=True)
    assert wrong.variance["decoder"] == pytest.approx(datum.variance["decoder"])
    assert deviation(wrong, draw) > shown


@pytest.mark.parametrize("method", ["vmap", "loop"])
def test_draws_of_a_layer_are_those_of_its_weights(method):
    model, batch = toys.gaussian(), toys.batch()
    found = gradient_moments(model, iwae(2), batch, draws=10, key=KEY, method=method, layers=True)
    owner, rows = layers_of(model), {}
    for i in range(10):
        rng = Rng(derive("gradient", KEY, i))
        for name, g in gradient(model, iwae(2)(model, batch, rng).surrogate.mean()).items():
            rows.setdefault(owner[name], {}).setdefault(i, []).append(g.flatten())
    assert {part for part in found.variance if "." in part} == set(rows)
    for layer, each in rows.items():
        g = torch.stack([torch.cat(pieces) for pieces in each.values()])
        assert found.variance[layer] == pytest.approx(float(g.var(0).sum()))
        assert found.size[layer] == g.shape[1]
        assert found.mean_square[layer] == pytest.approx(float(g.mean(0).square().sum() - g.var(0).sum() / 10))


@pytest.mark.parametrize("method", ["moments", "vmap"])
def test_layers_change_nothing_of_parts_and_sum_up_to_them(method):
    model, batch = toys.gaussian(), toys.batch(size=20)
    plain = gradient_moments(model, iwae(2), batch, draws=60, method=method)
    found = gradient_moments(model, iwae(2), batch, draws=60, method=method, layers=True)
    for part, value in plain.variance.items():
        assert found.variance[part] == pytest.approx(value, rel=1e-10)
        assert found.std_error[part] == pytest.approx(plain.std_error[part], rel=1e-8)
        layers = [name for name in found.variance if name.startswith(f"{part}.")]
        if part != "all":
            assert sum(found.variance[name] for name in layers) == pytest.approx(value)
            assert sum(found.size[name] for name in layers) == found.size[part]


def test_every_figure_of_a_part_is_one_of_a_layer():
    model, batches = toys.binary(), [toys.batch(size=12), toys.batch(size=12), toys.batch(size=12)]
    how = {"draws": 40, "key": KEY, "target": lambda n, b: bound_truth(model, b, reinforce()), "again": batches}
    rows = gradient_measurements(model, reinforce(), batches, layers=True, **how)
    plain = gradient_measurements(model, reinforce(), batches, **how)
    layers = {m.part for m in rows if "." in m.part}
    assert layers == set(layers_of(model).values())
    assert [(m.metric, m.part) for m in rows if "." not in m.part] == [(m.metric, m.part) for m in plain]
    for layer in layers:
        assert {m.metric for m in rows if m.part == layer} == {m.metric for m in plain if m.part == "encoder"}
    for metric in ("gradient_variance", "gradient_variance_data", "gradient_bias_squared"):
        own = [m.value for m in rows if m.metric == metric and m.part.startswith("decoder.")]
        assert sum(own) == pytest.approx(value_of(plain, metric, "decoder").value)
