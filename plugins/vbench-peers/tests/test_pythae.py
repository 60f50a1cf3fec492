"""Pythae's losses on our models: gradients as of judged estimators, or a verdict that says where not."""

from importlib import metadata

import pytest
import torch
from torch import nn

from vbench import ELBO, IWAE, Batch, Bernoulli, Decoder, Estimate, Estimator, Incompatible, Model, NormalMixture, Rng
from vbench.testing import Verdict, checks
from vbench.testing.cases import CASES, Case
from vbench.testing.models import X, randomized
from vbench.testing.replicates import row_gradients
from vbench.testing.subject import subject

pytest.importorskip("pythae", reason="Pythae is not installed: pip install './plugins/vbench-peers[pythae]'")

from vbench_peers.pythae_vamp import PythaeVampPrior

WHERE = {case.name: case for case in CASES}
LINE = WHERE["line"]
released = pytest.mark.skipif(metadata.version("pythae") != "0.1.2", reason="seen in Pythae 0.1.2")
PARTS = ("value", "encoder", "decoder", "prior")


def made(text):
    return subject("estimator", text).build({"x": X, "z": LINE.make().encoder.z}).double()


class Reference(Estimator):
    """M groups of K samples by the formula."""

    def __init__(self, m, k, beta=0.0):
        super().__init__()
        self.m, self.k, self.beta = m, k, beta

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.m * self.k)
        log_w = model.log_joint(batch, draw.z) - draw.log_q
        groups = log_w.unflatten(0, (self.m, self.k)).transpose(0, 1).flatten(1)
        value = IWAE()(groups).reshape(self.m, -1).mean(0)
        value = self.beta * ELBO()(log_w) + (1 - self.beta) * value
        return Estimate(value.detach(), value)


def found(estimator):
    gradients, value = row_gradients(LINE.make(), estimator, LINE.batch, 2, 5)
    return {"value": value[:, None], **gradients}


def differing(a, b):
    return {name for name in a if not torch.allclose(a[name], b[name], rtol=1e-9, atol=1e-11)}


def test_vae_is_the_elbo_with_its_kl_in_closed_form() -> None:
    assert not differing(found(made("pythae-vae")), found(made("reparam[kl=analytic]")))


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("pythae-iwae[k=1]", Reference(1, 1)),
        ("pythae-ciwae[beta=1, k=3]", Reference(1, 3, 1.0)),
        ("pythae-miwae[m=1, k=1]", Reference(1, 1)),
    ],
)
def test_what_has_nothing_to_be_wrong_in_is_right(text, reference) -> None:
    assert not differing(found(made(text)), found(reference))


@released
@pytest.mark.parametrize(
    ("text", "reference", "wrong"),
    [
        ("pythae-iwae[k=3]", Reference(1, 3), {"value"}),
        ("pythae-ciwae[beta=0.3, k=3]", Reference(1, 3, 0.3), {"value"}),
        ("pythae-miwae[m=2, k=2]", Reference(2, 2), {"value", "encoder", "decoder", "prior"}),  # equal in law alone
        ("pythae-miwae[m=1, k=3]", Reference(1, 3), {"value", "encoder", "decoder", "prior"}),
        ("pythae-miwae[m=1, k=3]", Reference(1, 3, 1.0), set()),  # it is the plain average
    ],
)
def test_what_differs_from_the_formula_at_the_same_draws(text, reference, wrong) -> None:
    assert differing(found(made(text)), found(reference)) == wrong


def asked(text, *names, cases=()):
    """What the judge says to these questions."""
    return {check.name: check.run() for check in checks("estimator", text, cases=cases) if check.name in names}


def failing(verdicts):
    assert all(outcome.verdict is not Verdict.INCONCLUSIVE for outcome in verdicts.values()), verdicts
    return {name.rpartition(":")[2] for name, outcome in verdicts.items() if outcome.verdict is Verdict.FAIL}


@released
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("pythae-iwae[k=5]", {"value"}),
        ("pythae-ciwae[beta=0.5, k=5]", {"value"}),
        ("pythae-miwae[m=4, k=2]", {"value", "encoder", "decoder", "prior"}),
        ("pythae-piwae[m=3, k=1]", {"value", "encoder"}),
    ],
)
def test_the_judge_fails_what_is_wrong_and_nothing_else(text, wrong) -> None:
    k = text.rpartition("k=")[2].rstrip("]")
    verdicts = asked(text, *(f"exact[line,k={k}]:{part}" for part in PARTS))
    assert failing(verdicts) == wrong, verdicts


def vamp() -> Model:
    """The judge's line with three pseudo-inputs for a prior."""
    line = LINE.make()
    torch.manual_seed(3)
    model = randomized(Model(line.encoder, line.decoder, PythaeVampPrior(X, line.encoder.z, 3)), 6, 0.4)
    with torch.no_grad():
        model.encoder.net.bias[:, 1] -= 0.5
        model.prior.pseudo_inputs[0].bias.copy_(torch.tensor([0.2, 0.5, 0.7, 0.4, 0.6]))
    return model


VAMP = Case("vamp", vamp, LINE.oracle, LINE.batch, rows=False)


@pytest.mark.slow
def test_vamp_is_exact_under_its_own_prior() -> None:
    verdicts = asked("pythae-vamp", *(f"exact[vamp]:{part}" for part in PARTS), cases=(VAMP,))
    assert len(verdicts) == len(PARTS)
    assert failing(verdicts) == set(), verdicts


class WithoutCount(PythaeVampPrior):
    """A mixture that sums its components: log M is missing."""

    def forward(self, batch, model):
        q = self.mixed(model)
        mixture = NormalMixture(q.loc.new_zeros(len(q.loc)), q.loc, q.scale)

        class Summed:
            def log_prob(self, z):
                return mixture.log_prob(z) + torch.tensor(3.0).log()

        return Summed()


def test_vamp_gives_what_our_pathwise_elbo_gives_at_the_same_draws() -> None:
    model, batch = vamp(), LINE.batch
    leaves = list(model.parameters())

    def seen(estimator, model):
        value, surrogate = tuple(estimator(model, batch, Rng(4)))[:2]
        return [value, *torch.autograd.grad(surrogate.sum(), leaves, allow_unused=True, materialize_grads=True)]

    ours = seen(made("reparam"), model)
    assert all(torch.allclose(a, b) for a, b in zip(seen(made("pythae-vamp"), model), ours, strict=True))
    model.prior.__class__ = WithoutCount
    assert not torch.allclose(seen(made("reparam"), model)[0], ours[0])


class Coupled(Decoder):
    """Pixels that are not independent."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 5)

    def forward(self, z, batch, model):
        inner = Bernoulli(self.net(z.float()).double())

        class Likelihood:
            mean = inner.mean
            log_prob = staticmethod(inner.log_prob)

        return Likelihood()


def test_other_likelihoods_and_masks_are_refused_in_one_line() -> None:
    line = LINE.make()
    with pytest.raises(Incompatible, match="independent binary pixels"):
        made("pythae-vae")(Model(line.encoder, Coupled(), line.prior), LINE.batch, Rng(0))
    masked = Batch(LINE.batch.x, LINE.batch.index, mask=torch.ones_like(LINE.batch.x))
    with pytest.raises(Incompatible, match="all of them observed"):
        made("pythae-vae")(line, masked, Rng(0))
