"""The bracket holds what it brackets: exact answers, in order, in pieces, through the grid and in the records."""

import math
from dataclasses import replace

import pytest
import torch

import vbench
from tests import toys
from tests.measure.toys import value_of
from vbench import Batch, Model, Space, Trait, build, frozen
from vbench.assemble import Built
from vbench.estimators.reparam import reparam
from vbench.grid import Measure
from vbench.measure import bracket
from vbench.measure.bracket import (
    Annealing,
    annealed,
    annealed_likelihood,
    bracketed_likelihood,
    simulated,
)
from vbench.measure.exact import exact_log_evidence
from vbench.measure.schedule import missing
from vbench.oracles import conjugate
from vbench.testing.chains import ChainDecoder, ChainEncoder, ChainPrior, chain_batch
from vbench.testing.models import randomized

SHORT = Annealing(chains=4, temperatures=4, leapfrog=3, pilot=20)


def model():
    return toys.linear_gaussian(prior="normal")


def test_simulated_data_come_with_posterior_samples_of_their_own():
    """Standardised by the exact posterior, the latents of many data are standard normal."""
    made = list(simulated(model(), 3000, 2000, key=1))
    assert [len(each.batch.x) for each in made] == [2000, 1000]
    assert torch.equal(made[1].batch.index, torch.arange(2000, 3000))
    whitened = []
    for batch, z in made:
        mean, covariance = (each.detach() for each in conjugate.posterior(model(), batch))
        whitened.append(torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (z[0] - mean).mT, upper=False))
    noise = torch.cat(whitened, 1)
    assert (noise.mean(1).abs() < 4.5 / 3000**0.5).all()
    assert ((noise @ noise.mT / 3000 - torch.eye(2)).abs() < 4.5 * 2**0.5 / 3000**0.5).all()
    assert not torch.equal(made[0].batch.x[:1000], made[1].batch.x)


@pytest.mark.parametrize("start", ["prior", "encoder"])
def test_the_bracket_holds_the_exact_value_and_closes(start):
    data = list(simulated(model(), 150, 150, key=2))
    exact = exact_log_evidence(model(), [data[0].batch])
    gaps = []
    for count in (4, 40):
        found = annealed(model(), data, SHORT._replace(temperatures=count, start=start), key=3)
        for side in (exact - found.lower, found.upper - exact):
            mean, error = float(side.mean()), float(side.std()) / 150**0.5
            assert mean > (2 * error if count == 4 else -3 * error), count
        gaps.append(float((found.upper - found.lower).mean()))
    assert gaps[1] < 0.5 * gaps[0]


def test_real_data_have_a_lower_bound_alone():
    batch = toys.batch(binary=False)
    found = annealed(model(), [batch, batch], SHORT._replace(temperatures=60, chains=16), key=0)
    exact = exact_log_evidence(model(), [batch, batch])
    errors = (1 / found.ess - 1 / 16).sqrt()
    assert ((found.lower - exact).abs() < 5 * errors + 0.02).all()
    assert found.upper.isnan().all()
    assert not torch.equal(found.lower[:5], found.lower[5:])  # draws of their own


def test_pieces_keep_data_and_their_latents_together(monkeypatch):
    (whole,) = simulated(model(), 11, 11, key=4)
    monkeypatch.setattr(bracket, "_BUDGET", 4 * 8 * 4 * 3)  # three data of four doubles, four chains
    pieces = list(bracket._pieces([whole], 4))
    assert [len(piece.batch.x) for piece in pieces] == [3, 3, 3, 2]
    torch.testing.assert_close(torch.cat([piece.batch.x for piece in pieces]), whole.batch.x)
    torch.testing.assert_close(torch.cat([piece.z for piece in pieces], 1), whole.z)
    masked = Batch(torch.zeros(5, 4).double(), torch.arange(5), mask=torch.eye(5, 4))
    cut = list(bracket._pieces([masked], 4))
    torch.testing.assert_close(torch.cat([piece.mask for piece in cut]), masked.mask)
    assert torch.cat([piece.index for piece in cut]).tolist() == [0, 1, 2, 3, 4]
    found = annealed(model(), [whole], SHORT, key=0)
    assert [len(part) for part in found] == [11] * 5


def test_what_is_measured_has_its_cost_and_errors_apart():
    how = SHORT._replace(temperatures=6)
    data = list(simulated(model(), 20, 20, key=5))
    rows = bracketed_likelihood(model(), data, how, key=6)
    found = annealed(model(), data, how, key=6)
    assert value_of(rows, "log_likelihood_ais").value == pytest.approx(float(found.lower.mean()))
    assert value_of(rows, "log_likelihood_gap").value == pytest.approx(float((found.upper - found.lower).mean()))
    spread = math.sqrt(float((1 / found.ess - 1 / 4).sum())) / 20
    assert value_of(rows, "log_likelihood_ais_mc_error").value == pytest.approx(spread)
    assert value_of(rows, "ais_evaluations").value == 2 * 4 * (1 + 5 * 3)
    assert value_of(rows, "ais_seconds").value > 0
    assert 0 < value_of(rows, "ais_acceptance").value < 1
    real = annealed_likelihood(model(), [each.batch for each in data], how, key=6)
    assert value_of(real, "ais_evaluations").value == 4 * (1 + 5 * 3)
    assert "log_likelihood_upper" not in {row.metric for row in real}


def test_evaluations_are_counted_as_they_are_made():
    calls = []

    class Counting(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, z, batch, model):
            calls.append(len(z))
            return self.inner(z, batch, model)

    counted = model()
    counted.decoder = Counting(counted.decoder)
    annealed(frozen(counted), [toys.batch(binary=False)], SHORT, key=0)
    pilots = 1 + (25 + 4) * 3
    assert sum(calls) == SHORT.evaluations + 4 * pilots


def test_wrong_calls_are_named():
    with pytest.raises(ValueError, match="needs at least one batch"):
        annealed(model(), [], SHORT, key=0)


PARTS = {"dataset": "digits", "decoder": "bernoulli", "estimator": "reparam"}


def reasons(encoder, prior, **settings):
    estimator = {"estimator": "rloo"} if "normal" not in prior else {}
    built = build(**PARTS | estimator, encoder=encoder, prior=prior)
    return missing(built, Measure.model_validate({"ais": settings}))


def test_what_cannot_be_annealed_is_refused_in_one_line(monkeypatch):
    assert "ais" not in reasons("gaussian[latent=2]", "standard-normal")
    assert reasons("bernoulli[latent=3]", "bernoulli")["ais"] == "needs real-latent, which is not offered"
    monkeypatch.setattr("vbench.measure.schedule.annealed", lambda *args, **rest: 1 / 0)
    assert "ZeroDivisionError division by zero" in reasons("gaussian[latent=2]", "standard-normal")["ais"]


def sequences_that_end():
    """Three sequences of which the last ends a step early: model, batch, and the objects of a cell."""
    batch, x, z = chain_batch(3), Space((3, 2), "binary"), Space((3, 1))
    parts = ChainEncoder(x, z), ChainDecoder(x, z), ChainPrior(x, z)
    offers = frozenset({Trait.latent("real")}).union(*(part.offers for part in parts))
    chain = randomized(Model(*parts), 16, 1.2)
    return chain, batch, Built(chain, reparam(), toys.masked(batch), offers)


@pytest.mark.parametrize(("start", "moved"), [("prior", True), ("encoder", False)])
def test_chains_of_a_proposal_do_not_move_what_ends_early_and_are_refused(start, moved):
    chain, batch, built = sequences_that_end()
    found = annealed(chain, [batch], SHORT._replace(start=start), key=0)
    assert (found.acceptance > 0).tolist() == [True, True, moved]

    def reason(cell):
        return missing(cell, Measure.model_validate({"ais": {"start": start, "simulated": 0}})).get("ais")

    refused = "start: encoder cannot move sequences that end early: take start: prior"
    assert reason(built) == (None if moved else refused)
    assert reason(built._replace(data=replace(built.data, masks={}))) is None


def test_a_model_that_makes_no_data_is_not_bracketed(monkeypatch):
    def nothing(*args, **rest):
        raise NotImplementedError("no ancestral samples; none")

    monkeypatch.setattr("vbench.measure.schedule.simulated", nothing)
    found = reasons("gaussian[latent=2]", "standard-normal")
    assert found["log_likelihood_upper"].endswith("it makes none: NotImplementedError no ancestral samples, none")
    assert "log_likelihood_upper" not in reasons("gaussian[latent=2]", "standard-normal", simulated=0)


def test_a_study_records_ladder_bracket_and_single_data(tmp_path):
    result = vbench.run(
        {
            "name": "brackets",
            "datasets": ["linear-gaussian"],
            "encoders": [{"gaussian": {"latent": 2, "hidden": [8]}}],
            "decoders": ["linear-gaussian"],
            "priors": ["standard-normal"],
            "estimators": ["reparam", "iwae"],
            "seeds": 1,
            "train": {"steps": 30, "batch": 20},
            "measure": {
                "data": 40,
                "log_likelihood": {"k": [1, 50]},
                "ais": {"chains": 4, "temperatures": 20, "leapfrog": 3, "data": 25, "simulated": 30, "pilot": 10},
            },
        },
        results=tmp_path,
        workers=0,
    )
    assert result.counts["done"] == 2
    records = vbench.load(result.folder)
    for cell, mine in records.groupby("cell", observed=True):
        of = mine.set_index(["split", "metric"])
        value, error = of["value"], of["std_error"]
        assert value["test", "log_likelihood_exact"] == pytest.approx(value["test", "log_likelihood"], abs=1.0)
        exact = value["simulated", "log_likelihood_exact"]
        slack = 4 * error["simulated", "log_likelihood_gap"]
        assert (
            value["simulated", "log_likelihood_ais"] - slack
            < exact
            < value["simulated", "log_likelihood_upper"] + slack
        )
        assert of["n"]["test", "log_likelihood_shortfall"] == 25
        assert ("valid", "log_likelihood_ais") not in of.index
        assert ("simulated", "log_likelihood[k=1]") in of.index
        kept = vbench.records.Store(result.folder).values()[cell]
        assert sorted(kept) == ["test log_likelihood", "test log_likelihood_ais", "valid log_likelihood"]
        assert kept["test log_likelihood"].mean() == pytest.approx(value["test", "log_likelihood"], rel=1e-5)
        short = (kept["test log_likelihood_ais"] - kept["test log_likelihood"][:25]).mean()
        assert short == pytest.approx(value["test", "log_likelihood_shortfall"], abs=1e-4)
