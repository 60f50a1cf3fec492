"""ELBOs against the exact log p(observed), by sums over what is missing and in closed form; and twins that fail."""

import itertools

import pytest
import torch
from filling import Affine, Fixed, completing, joint, trained_model
from torch import distributions as reference
from vbench_completion import pictures, vbench_datasets, vbench_decoders, vbench_encoders
from vbench_completion.fill import FillEncoder
from vbench_completion.fill_svi import FillSVIEncoder
from vbench_completion.joint import JointPrior
from vbench_completion.masked import masked

from tests import toys
from vbench import (
    Batch,
    Bernoulli,
    DataError,
    Incompatible,
    Model,
    Rng,
    Space,
    Trait,
    build,
    fixed_batches,
    gradient_moments,
    load,
    run,
)
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.oracles.enumeration import states
from vbench.testing import Verdict, check

f64 = {"dtype": torch.float64}
BITS, REAL = Space((2, 2), "binary"), Space((3,))
X = torch.tensor([[[1.0, 0], [0, 1]], [[0, 0], [1, 1]]], **f64)
MASK = torch.tensor([[[True, False], [True, False]], [[False, False], [True, False]]])
BATCH = Batch(torch.where(MASK, X, torch.nan), torch.arange(2), mask=MASK, key=torch.tensor(3))


def evidence(model, x):
    """log p(x) of every image of two binary h, written out."""
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), **f64)
    prior = reference.Bernoulli(logits=model.prior.raw[0]).log_prob(h).sum(1)
    logits = (h @ model.decoder.net.weight.T + model.decoder.net.bias)[:, None]
    return (reference.Bernoulli(logits=logits).log_prob(x.flatten(1)).sum(2) + prior[:, None]).logsumexp(0)


def exact(model, q_probs):
    """log p(observed), and the ELBO of independent bits with these probabilities, by sums over what is missing."""
    found = []
    for x, mask, probs in zip(X, MASK, q_probs, strict=True):
        missing = [i for i in range(4) if not mask.flatten()[i]]
        fills = torch.tensor(list(itertools.product([0.0, 1.0], repeat=len(missing))), **f64)
        images = x.flatten().repeat(len(fills), 1)
        images[:, missing] = fills
        log_p = evidence(model, images.view(-1, 2, 2))
        q = reference.Bernoulli(probs=probs.flatten()[missing])
        log_q = q.log_prob(fills).sum(1)
        elbo = (log_q.exp() * (log_p - log_q)).sum()
        truth = log_p.logsumexp(0)
        gap = (log_q.exp() * (log_q - (log_p - truth))).sum()
        torch.testing.assert_close(elbo, truth - gap)
        found.append((truth, elbo))
    return (torch.stack(part) for part in zip(*found, strict=True))


def log_weights(model, batch, k, key=0):
    draw = model.posterior(batch).draw(Rng(key), k)
    return model.log_joint(batch, draw.z) - draw.log_q, draw.z


def test_the_joint_is_exact_where_its_latents_can_be_summed(monkeypatch):
    model = trained_model(BITS, Space((2,), "binary"))
    density = joint(monkeypatch, model, BITS)(None, None)
    images = states(BITS)
    log_p = density.log_prob(images[:, None])[:, 0]
    torch.testing.assert_close(log_p, evidence(model, images))
    assert float(log_p.logsumexp(0).detach()) == pytest.approx(0, abs=1e-12)
    drawn = density.draw(Rng(1), 4000).z[:, 0].mean(0)
    assert ((drawn - torch.tensordot(log_p.exp(), images, 1)).abs() < 0.04).all()


def test_the_elbo_is_below_the_evidence_of_what_is_observed_by_the_kl(monkeypatch):
    model = trained_model(BITS, Space((2,), "binary"))
    filling = completing(monkeypatch, model, BITS)
    truth, elbo = exact(model, filling.posterior(BATCH).mean.detach())
    assert (elbo < truth - 0.02).all()
    with torch.no_grad():
        log_w, z = log_weights(filling, BATCH, 20_000)
    assert torch.equal(torch.where(MASK, z, 0), torch.where(MASK, X, 0).expand_as(z))
    assert ((log_w.mean(0) - elbo).abs() < 5 * log_w.std(0) / 20_000**0.5).all()
    weight = (log_w - truth).exp()
    assert ((weight.mean(0) - 1).abs() < 5 * weight.std(0) / 20_000**0.5).all()


def test_it_is_the_evidence_where_the_posterior_factorises_and_nowhere_above(monkeypatch):
    model = trained_model(BITS, Space((2,), "binary"))
    with torch.no_grad():
        model.decoder.net.weight.zero_()  # pixels do not know of each other
    table = FillSVIEncoder(BITS, 2, pace=1.0).double()
    with torch.no_grad():
        table.table.copy_(model.decoder.net.bias.expand(2, 4))
    filling = completing(monkeypatch, model, BITS, table)
    truth, elbo = exact(model, filling.posterior(BATCH).mean.detach())
    torch.testing.assert_close(elbo, truth)
    log_w, _ = log_weights(filling, BATCH, 50)
    torch.testing.assert_close(log_w, truth.expand(50, 2))  # every draw


def test_one_missing_pixel_is_always_completed_exactly(monkeypatch):
    model = trained_model(BITS, Space((2,), "binary"))
    mask = torch.ones(1, 2, 2, dtype=torch.bool)
    mask[0, 1, 0] = False
    both = torch.stack([X[0], X[0]])
    both[:, 1, 0] = torch.tensor([0.0, 1.0])
    log_p = evidence(model, both)
    table = FillSVIEncoder(BITS, 1, pace=1.0).double()
    with torch.no_grad():
        table.table[0, 2] = log_p[1] - log_p[0]
    filling = completing(monkeypatch, model, BITS, table)
    log_w, _ = log_weights(filling, Batch(X[:1], torch.arange(1), mask=mask), 30)
    torch.testing.assert_close(log_w, log_p.logsumexp(0).expand(30, 1))


class Unclamped(FillEncoder):
    """The twin that may guess what is observed, too."""

    def forward(self, batch, model):
        return super().forward(batch._replace(mask=torch.zeros_like(batch.mask)), model)


class Peeking(FillEncoder):
    """The twin that sees what is hidden."""

    def forward(self, batch, model):
        made = super().forward(batch._replace(mask=None), model)
        return Bernoulli(made.logits / 1000)


def test_twins_are_caught(monkeypatch):
    model = trained_model(BITS, Space((2,), "binary"))
    torch.manual_seed(2)
    twin = toys.randomize(Unclamped(BITS, hidden=(5,)).double(), 4, 0.6)
    filling = completing(monkeypatch, model, BITS, twin)
    log_w, z = log_weights(filling, BATCH, 200)
    assert not torch.equal(torch.where(MASK, z, 0), torch.where(MASK, X, 0).expand_as(z))
    assert log_w.isinf().any()  # what is observed is certain: the decoder says so
    torch.manual_seed(2)
    peeking = toys.randomize(Peeking(BITS, hidden=(5,)).double(), 4, 0.6)
    assert peeking(BATCH, None).logits.isnan().any()
    honest = toys.randomize(FillEncoder(BITS, hidden=(5,)).double(), 4, 0.6)
    other = BATCH._replace(x=torch.where(MASK, X, 1 - X))
    assert torch.equal(honest(BATCH, None).logits, honest(other, None).logits)


def test_gradients_are_those_of_the_sum(monkeypatch):
    model = trained_model(BITS, Space((2,), "binary"))
    filling = completing(monkeypatch, model, BITS)
    q = filling.posterior(BATCH)
    missing = torch.where(MASK, 0.5, q.mean)  # what is certain has no derivative
    images = states(BITS)
    log_p = evidence(model, images)
    truth = torch.zeros((), **f64)
    for n, (x, mask) in enumerate(zip(X, MASK, strict=True)):
        same = ((images == x) | ~mask).flatten(1).all(1)
        log_q = torch.where(mask, 0, Bernoulli(missing[n].logit()).logits)
        log_q = (torch.nn.functional.logsigmoid((2 * images[same] - 1) * log_q) * ~mask).flatten(1).sum(1)
        truth = truth + (log_q.exp() * (log_p[same].detach() - log_q)).sum() / 2
    parameters = list(filling.encoder.parameters())
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(truth, parameters, retain_graph=True)])
    found = gradient_moments(filling, rloo(4), BATCH, draws=4000)
    mean = torch.cat([found.mean[name].flatten() for name in found.mean if name.startswith("encoder")])
    assert float((mean - wanted).norm()) < 5 * (found.variance["encoder"] / 4000) ** 0.5


# ---- real numbers


def gaussian(monkeypatch, **given):
    """A joint whose encoder is its exact posterior, so that any number of samples gives p(x) itself."""
    model = trained_model(REAL, Space((1,)), seed=7)
    with torch.no_grad():
        w, b, s = model.decoder.net.weight[:, 0], model.decoder.net.bias, (2 * model.decoder.log_scale).exp()
        m = model.prior.raw[0, 0]
        precision = 1 + (w**2 / s).sum()
        model.encoder.net.weight.copy_(torch.stack([w / s / precision, torch.zeros(3, **f64)]))
        shift = (m - (w * b / s).sum()) / precision
        model.encoder.net.bias.copy_(torch.stack([shift, -precision.log() / 2]))
        covariance = w[:, None] * w + s.diag()

        return model, reference.MultivariateNormal(b + w * m, covariance)


def test_missing_real_numbers_against_the_closed_form(monkeypatch):
    model, p = gaussian(monkeypatch)
    x = torch.tensor([[0.7, -0.4, 1.2]], **f64)
    mask = torch.tensor([[True, False, False]])
    batch = Batch(torch.where(mask, x, torch.nan), torch.arange(1), mask=mask, key=torch.tensor(1))
    filling = completing(monkeypatch, model, REAL, samples=2)
    whole = torch.randn(5, 1, 3, **f64)
    torch.testing.assert_close(filling.prior_density(batch).log_prob(whole), p.log_prob(whole))
    mean, cov = p.mean, p.covariance_matrix
    truth = reference.Normal(mean[0], cov[0, 0].sqrt()).log_prob(x[0, 0])
    centre = mean[1:] + cov[1:, 0] / cov[0, 0] * (x[0, 0] - mean[0])
    left = reference.MultivariateNormal(centre, cov[1:, 1:] - torch.outer(cov[1:, 0], cov[0, 1:]) / cov[0, 0])
    table = FillSVIEncoder(REAL, 1, pace=1.0).double()
    best = left.precision_matrix.diagonal().rsqrt()
    with torch.no_grad():
        table.table[0, 1:3], table.table[0, 4:] = centre, best.log()
    for encoder in (filling.encoder, table):
        own = Model(encoder, filling.decoder, filling.prior)
        q = own.posterior(batch)
        factor = reference.MultivariateNormal(q.base.loc[0, 1:], q.base.scale[0, 1:].square().diag())
        gap = reference.kl_divergence(factor, left).detach()
        with torch.no_grad():
            log_w, z = log_weights(own, batch, 20_000)
        assert (z[..., 0] == 0.7).all()
        assert float(gap) > 0.005
        assert float((log_w.mean() - (truth - gap)).abs()) < 5 * float(log_w.std()) / 20_000**0.5
    slope = torch.autograd.grad(reparam()(own, batch, Rng(1)).surrogate.sum(), table.table)[0]
    assert (slope[0, [0, 3]] == 0).all()
    # one missing entry: every draw is exact
    mask = torch.tensor([[True, False, True]])
    seen = [0, 2]
    gain = torch.linalg.solve(cov[seen][:, seen], cov[seen, 1])
    with torch.no_grad():
        table.table[0, 1] = mean[1] + gain @ (x[0, seen] - mean[seen])
        table.table[0, 4] = (cov[1, 1] - gain @ cov[seen, 1]).log() / 2
    one = Model(table, filling.decoder, filling.prior)
    log_w, _ = log_weights(one, batch._replace(x=x, mask=mask), 30)
    truth = reference.MultivariateNormal(mean[seen], cov[seen][:, seen]).log_prob(x[0, seen])
    torch.testing.assert_close(log_w, truth.expand(30, 1))


@pytest.mark.parametrize("proposal", ["encoder", "prior"])
def test_estimates_of_the_joint_are_unbiased_and_functions_of_the_key(monkeypatch, proposal):
    model = trained_model(BITS, Space((1,)), seed=3)
    prior = joint(monkeypatch, model, BITS, samples=3, proposal=proposal)
    x = X[:1].expand(1, 1, 2, 2)
    h = torch.linspace(-8, 8, 4001, **f64)[:, None, None]
    truth = (model.log_joint(Batch(X[:1], torch.arange(1)), h).logsumexp(0) + torch.tensor(16 / 4000).log())[0].detach()
    keys = [Batch(X[:1], torch.arange(1), key=torch.tensor(key)) for key in range(1500)]
    with torch.no_grad():
        found = torch.stack([prior(batch, None).log_prob(x)[0, 0] for batch in keys])
        assert prior(keys[4], None).log_prob(x)[0, 0] == found[4]
    ratio = (found - truth).exp()
    assert float((ratio.mean() - 1).abs()) < 5 * float(ratio.std()) / 1500**0.5
    assert float(found.mean()) < float(truth)


# ---- what fits


def test_masks_of_images():
    whole = masked()
    assert whole.masks["test"].shape == whole.test.shape
    assert not whole.masks["train"][:, :4].any()
    assert whole.masks["train"][:, 4:].all()
    assert not masked(hidden="right", share=0.25).masks["valid"][:, :, 6:].any()
    assert masked(hidden="bottom", share=0.25).masks["valid"].float().mean() == 0.75
    some = masked(hidden="scattered", share=0.3)
    assert float(some.masks["train"].float().mean()) == pytest.approx(0.7, abs=0.01)
    assert not torch.equal(some.masks["train"][0], some.masks["train"][1])
    assert len({d.digest for d in (whole, some, masked(hidden="scattered", seed=1), masked(hidden="left"))}) == 4
    assert masked("digits[binarization=levels]").x.levels == 17
    with pytest.raises(DataError, match="no images"):
        masked("linear-gaussian")
    with pytest.raises(DataError, match="all or nothing"):
        masked(share=0.01)


def test_masks_of_its_own_are_not_lost():
    with pytest.raises(DataError, match=r"^masked: masked has masks of its own, which another mask would lose$"):
        masked("masked", hidden="scattered")
    pytest.importorskip("vbench_sequence")
    with pytest.raises(DataError, match=r"^masked: linear-gaussian-chain\[n=50\] has masks of its own"):
        masked("linear-gaussian-chain[n=50]", hidden="scattered")


def test_a_process_of_a_cell_finds_the_dataset_within(tmp_path):
    grid = {
        "name": "within",
        "datasets": ["masked[of='bernoulli-bars[side=3]',hidden=scattered]"],
        **{"encoders": ["fill[hidden=[4]]"], "decoders": ["observed"], "priors": ["bernoulli"], "estimators": ["rloo"]},
        **{"train": {"steps": 2, "batch": 4}, "measure": {"data": 4, "samples": 2}},
    }
    run(grid, results=tmp_path, workers=1)
    assert load(tmp_path / "within", "cells")["status"].tolist() == ["done"]


def test_what_goes_together_and_what_does_not(monkeypatch):
    def reason(**changed):
        given = {"dataset": "masked", "encoder": "fill", "decoder": "observed", "estimator": "rloo"}
        try:
            build(**given | {"prior": "bernoulli"} | changed)
        except Incompatible as why:
            return str(why)
        return ""

    assert not reason()
    assert "needs missing" in reason(dataset="digits")
    assert "missing" in reason(
        encoder="gaussian[latent=3]", prior="standard-normal", estimator="reparam", dataset="digits"
    )
    assert "is real [3]" in reason(encoder="gaussian[latent=3]", prior="standard-normal", estimator="reparam")
    assert "not levels" in reason(dataset="masked[of='digits[binarization=levels]']")
    assert "nowhere" in reason(prior="joint[study=nowhere,cell=a]")
    model = trained_model(BITS, Space((2,)))
    joint(monkeypatch, model, BITS)
    assert "the model is of binary [2, 2]" in reason(prior="joint[study=a,cell=b]")


def test_an_autoregressive_joint(monkeypatch):
    pytest.importorskip("vbench_autoregressive")
    from vbench_autoregressive.pixelcnn import PixelCNNDecoder

    h = Space((1,))
    decoder = PixelCNNDecoder(BITS, h, torch.full((2, 2), 0.4), channels=3, conditional=False)
    model = toys.randomize(Model(Affine(BITS, h), decoder, Fixed(h)).double(), 5, 0.7)
    prior = joint(monkeypatch, model, BITS, samples=1, proposal="prior")
    images = states(BITS)
    log_p = prior(None, None).log_prob(images[:, None])[:, 0]
    assert float(log_p.logsumexp(0).detach()) == pytest.approx(0, abs=1e-12)
    filling = completing(monkeypatch, model, BITS, samples=1, proposal="prior")
    log_w, _ = log_weights(filling, BATCH, 4000)
    truth = torch.stack(
        [log_p[((images == x) | ~m).flatten(1).all(1)].logsumexp(0) for x, m in zip(X, MASK, strict=True)]
    )
    weight = (log_w - truth).exp().detach()
    assert ((weight.mean(0) - 1).abs() < 5 * weight.std(0) / 4000**0.5).all()


@pytest.mark.parametrize("encoder", ["fill[hidden=[8]]", "fill-svi"])
def test_pictures(encoder, tmp_path):
    parts = {"dataset": "masked", "decoder": "observed", "prior": "bernoulli", "estimator": "rloo"}
    cell = build(encoder=encoder, **parts)
    rows = pictures(cell, tmp_path / "a.png", n=3, draws=2)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert list(rows) == ["image", "seen", "mean", "draw 1", "draw 2"]
    split = "train" if encoder == "fill-svi" else "test"
    assert torch.equal(rows["image"], next(iter(fixed_batches(cell.data, split, 3, key=0))).x)
    assert rows["seen"][:, :4].isnan().all()
    for name in ("mean", "draw 1", "draw 2"):
        assert torch.equal(rows[name][:, 4:], rows["image"][:, 4:])


def test_a_table_is_fitted_anew_to_other_data():
    encoder = FillSVIEncoder(BITS, 7, pace=10.0, refit_steps=5, refit_lr=0.2)
    other = encoder.refit(3)
    assert other.table.shape == (3, 4)
    assert (other.pace, other.refit_steps, other.refit_lr) == (1.0, 5, 0.2)
    assert Trait.AMORTIZED not in encoder.offers


EVERY = [
    *(("dataset", name) for name in vbench_datasets()),
    *(("encoder", name) for name in vbench_encoders()),
    *(("decoder", name) for name in vbench_decoders()),
]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_judged(kind, name):
    found = check(kind, name)
    assert [f"{r.name}: {r.figure}" for r in found if r.verdict is not Verdict.PASS] == []


def test_the_joint_is_judged_with_its_model(monkeypatch):
    (asked,) = check("prior", JointPrior)
    assert (asked.verdict, asked.name) == (Verdict.INCONCLUSIVE, "builds")
    x = Space((3,), "binary")
    joint(monkeypatch, trained_model(x, Space((2,), "binary")), x)
    found = check("prior", JointPrior, study="a", cell="b")
    assert [f"{r.name}: {r.figure}" for r in found if r.verdict is not Verdict.PASS] == []
    assert {"normalised[binary-3]", "draws[binary-3]"} <= {r.name for r in found}


class Blank(FillEncoder):
    """The twin to whom all that is observed is zero."""

    def forward(self, batch, model):
        return super().forward(batch._replace(x=torch.zeros_like(batch.x)), model)


@pytest.mark.parametrize("twin", [Blank, Peeking])
def test_the_judge_catches_twins(twin):
    class Twin(twin):
        """One mistake.

        Source: nobody.
        """

    failed = {r.name for r in check("encoder", Twin) if r.verdict is Verdict.FAIL}
    assert failed & {"proper-weight[binary-4]", "normalised[binary-4]"}
