"""Pyro's losses on our models: the same gradients as estimators that the oracles have judged, at the same draws."""

from importlib import metadata

import pytest
import torch
from torch.func import vmap

from vbench import IWAE, Estimate, Renyi, Rng, Wake
from vbench.testing import Verdict, checks
from vbench.testing.cases import CASES
from vbench.testing.replicates import row_gradients
from vbench.testing.subject import subject

pyro = pytest.importorskip("pyro", reason="Pyro is not installed: pip install './plugins/vbench-peers[pyro]'")

from vbench_peers.pyro_call import SampledLoss  # noqa: E402 - it imports Pyro

WHERE = {case.name: case for case in CASES}
SAME = [
    ("pyro-trace[k=3]", "reparam[k=3]", "line"),
    ("pyro-trace[k=2]", "reparam[k=2]", "linear-gaussian"),
    ("pyro-trace", "reparam", "pseudo"),
    ("pyro-trace[k=2]", "reinforce[k=2]", "binary"),
    ("pyro-trace", "reinforce", "categorical"),
    ("pyro-tracegraph[k=3]", "reparam[k=3]", "line"),
    ("pyro-tracegraph[k=2]", "reinforce[k=2]", "binary"),
    ("pyro-tracegraph", "reinforce", "categorical"),
    ("pyro-tracemeanfield[k=2]", "reparam[k=2, kl=analytic]", "linear-gaussian"),
    ("pyro-tracemeanfield", "reparam[kl=analytic]", "line"),
    ("pyro-renyi[alpha=0, k=3]", "iwae[k=3]", "line"),
    ("pyro-renyi[alpha=0.5, k=2]", "renyi[alpha=0.5, k=2]", "linear-gaussian"),
    ("pyro-renyi[alpha=-1, k=3]", "renyi[alpha=-1, k=3]", "pseudo"),
]


def made(text, where):
    return subject("estimator", text).build({"z": WHERE[where].make().encoder.z}).double()


def found(estimator, where, key=5):
    """Value ``[B]`` and gradient of each datum by part, two of each datum."""
    case = WHERE[where]
    gradients, value = row_gradients(case.make(), estimator, case.batch, 2, key)
    return {"value": value[:, None], **gradients}


def differing(a, b):
    return {name for name in a if not torch.allclose(a[name], b[name], rtol=1e-9, atol=1e-11)}


@pytest.mark.parametrize(("peer", "ours", "where"), SAME)
def test_value_and_gradients_are_those_of_the_judged_estimator(peer, ours, where) -> None:
    assert not differing(found(made(peer, where), where), found(made(ours, where), where))


class OnlyWake(SampledLoss):
    """The gradient of the declared target at the same draws, by its own formula."""

    def __init__(self, k):
        super().__init__(None, IWAE(), k, pathwise=False)

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.draw(rng, self.k).z.detach()
        log_p, log_q = model.log_joint(batch, z), q.log_prob(z)
        return Estimate(IWAE()(log_p - log_q).detach(), Wake()(log_p, log_q))


@pytest.mark.parametrize("where", ["binary", "line", "pseudo"])
def test_wake_phases_are_those_of_each_datum(where) -> None:
    assert not differing(found(made("pyro-rws[k=3]", where), where), found(OnlyWake(3), where))


def test_wake_phases_of_a_minibatch_weigh_all_its_data_together() -> None:
    """What Pyro's documentation says is not supported yet."""
    together = found(made("pyro-rws[k=3, minibatch=true]", "binary"), "binary")
    assert differing(together, found(OnlyWake(3), "binary")) == {"value", "encoder", "decoder", "prior"}


class Tilted:
    """A released loss with a mistake in it."""

    def __init__(self, loss, factor=1.0, shift=0.0):
        self.loss, self.factor, self.shift = loss, factor, shift

    def loss_and_grads(self, model, guide):
        value = self.loss.loss_and_grads(model, guide)
        for _, parameter in pyro.get_param_store().named_parameters():
            parameter.grad *= self.factor
        return value + self.shift


@pytest.mark.parametrize(
    ("given", "wrong"), [({"factor": 1.001}, {"encoder", "decoder", "prior"}), ({"shift": 0.06}, {"value"})]
)
def test_a_mistake_in_the_loss_is_not_hidden_by_how_it_is_called(given, wrong) -> None:
    estimator = made("pyro-renyi[k=2]", "line")
    estimator.loss = Tilted(estimator.loss, **given)
    assert differing(found(estimator, "line"), found(made("iwae[k=2]", "line"), "line")) == wrong


def test_a_call_leaves_no_parameter_behind() -> None:
    pyro.get_param_store().clear()
    case = WHERE["binary"]
    made("pyro-trace", "binary")(case.make(), case.batch, Rng(1))
    assert list(pyro.get_param_store().keys()) == []


def test_lanes_are_what_calls_alone_are() -> None:
    case, estimator = WHERE["binary"], made("pyro-trace[k=2]", "binary")
    model = case.make()

    def one(key):
        value, surrogate, _ = estimator(model, case.batch, Rng(key))
        return value, surrogate

    chosen = torch.tensor([3, 4])
    together = vmap(one, randomness="error")(chosen)
    for lane, key in enumerate(chosen):
        assert all(torch.allclose(a[lane], b) for a, b in zip(together, one(int(key)), strict=True))


def asked(text, *names):
    """What the judge says to these questions."""
    return {check.name: check.run() for check in checks("estimator", text) if check.name in names}


def test_all_outcomes_together_are_exact() -> None:
    for text in ("pyro-trace[k=2]", "pyro-tracegraph"):
        k = 2 if "k=2" in text else 1
        parts = [f"outcomes[stress,k={k}]:{part}" for part in ("value", "encoder", "decoder", "prior")]
        assert {outcome.verdict for outcome in asked(text, *parts).values()} == {Verdict.PASS}


@pytest.mark.skipif(metadata.version("pyro-ppl") != "1.9.2", reason="seen in Pyro 1.9.2")
def test_renyi_of_discrete_latents_fails_at_the_encoder() -> None:
    names = [f"outcomes[stress,k=2]:{part}" for part in ("value", "encoder", "decoder", "prior")]
    for alpha in (0.0, 0.5):
        verdicts = asked(f"pyro-renyi[alpha={alpha}, k=2]", *names)
        wrong = {name for name, outcome in verdicts.items() if outcome.verdict is Verdict.FAIL}
        assert wrong == {"outcomes[stress,k=2]:encoder"}, verdicts
    assert not found(made("pyro-renyi[alpha=0, k=2]", "binary"), "binary")["encoder"].any()
    assert isinstance(made("pyro-renyi[alpha=0, k=2]", "binary").bound, Renyi)
