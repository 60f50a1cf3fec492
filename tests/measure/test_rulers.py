"""One ruler for all: held-out log likelihood by an estimator's bound; nats per step of sequences."""

import math
from dataclasses import replace

import pytest
import torch

from vbench import IWAE, Batch, Pathwise, build
from vbench.assemble import build_estimator
from vbench.grid import GridError, Measure, cell_from_spec, parse_choice, read_grid
from vbench.measure.likelihood import bound_likelihood, log_likelihoods
from vbench.measure.measurement import Measurement, per_step
from vbench.measure.schedule import missing
from vbench.registry import load_registry
from vbench.testing.chains import chain, chain_batch
from vbench.types import Incompatible

PARTS = {
    "dataset": "digits",
    "encoder": "gaussian[latent=2,hidden=[4]]",
    "decoder": "bernoulli",
    "prior": "standard-normal",
}


def test_the_bound_of_an_estimator_is_the_likelihood_by_as_many_samples():
    model, batch = chain(), chain_batch(3)
    (found,) = bound_likelihood(model, Pathwise(IWAE(), 4000), [batch, batch], key=1)
    values, _ = log_likelihoods(model, [batch], k=4000, key=2)
    assert (found.metric, found.unit, found.n) == ("log_likelihood", "nats", 6)
    assert found.value == pytest.approx(float(values.mean()), abs=0.15)


def test_nats_per_step_are_the_total_over_all_steps():
    # eight steps in all of three data: 3, 3 and 2
    found = [
        Measurement("elbo", "all", -12.0, 0.6, 3, "nats"),
        Measurement("ess", "all", 2.0, None, 3, "1"),
        Measurement("mutual_information", "encoder", 1.0, None, 3, "nats"),
        Measurement("mutual_information_cap", "encoder", math.log(3), None, 3, "nats"),
        Measurement("aggregate_kl", "encoder", 1.0, None, 3, "nats"),
    ]
    (one,) = per_step(found, [chain_batch(3)])
    assert one.metric == "elbo_per_step"
    assert one.unit == "nats per step"
    assert one.value == pytest.approx(-36 / 8)
    assert one.std_error == pytest.approx(0.6 * 3 / 8)
    unmasked = Batch(torch.zeros(2, 5, 1), torch.arange(2))
    assert per_step(found[:1], [unmasked])[0].value == pytest.approx(-12 / 5)


def test_an_estimator_that_does_not_fit_is_a_reason():
    built = build(**PARTS, estimator="reparam")
    assert build_estimator("iwae[k=7]", built).k == 7
    with pytest.raises(Incompatible, match="by vimco needs"):
        build_estimator("vimco", built._replace(offers=frozenset()))
    settings = Measure.model_validate({"log_likelihood": {"method": "renyi[k=3,alpha=-1.0]", "k": 3}})
    assert "no lower bound" in missing(built, settings)["log_likelihood"]
    assert "log_likelihood" not in missing(built, Measure.model_validate({"log_likelihood": {"k": 3}}))


GRID = {"name": "rulers", **{f"{kind}s": [text] for kind, text in PARTS.items()}, "estimators": ["reparam"], "seeds": 1}


def read(**settings):
    return read_grid(GRID | {"measure": {"log_likelihood": settings}}, load_registry().catalogue())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("ive", "unknown estimator 'ive'"),
        ("iwae[c=3]", "unknown"),
        ("iwae[k=0]", "measure.log_likelihood.method"),
        ("no-k", "no-k has no k"),
    ],
)
def test_a_wrong_method_is_found_in_the_grid(method, message, monkeypatch):
    if method == "no-k":
        from vbench.grid import sections

        found = parse_choice("reparam", "estimator", load_registry().catalogue())
        monkeypatch.setattr(sections, "read_choices", lambda *_: [replace(found, name="no-k", parameters={})])
    with pytest.raises(GridError, match=message):
        read(method=method)


def test_several_k_are_importance_samplings_alone():
    with pytest.raises(GridError, match="renyi takes one k; several are importance sampling's"):
        read(method="renyi", k=[1, 5])
    (cell,) = read(k=[5, 1]).cells()
    assert cell.measure.log_likelihood.k == (1, 5)
    assert cell_from_spec(cell.spec(), cell.labels()).measure == cell.measure


def test_the_method_is_written_out_at_its_k():
    (cell,) = read(method="renyi[alpha=0.5]", k=9).cells()
    assert cell.measure.log_likelihood.method == "renyi[alpha=0.5,k=9]"
    assert cell_from_spec(cell.spec(), cell.labels()).measure == cell.measure
    (plain,) = read(k=9).cells()
    assert plain.measure.log_likelihood.method == "iwae"
