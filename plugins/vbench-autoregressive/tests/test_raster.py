"""Who sees whom, by Jacobians; probabilities, by summing over every image; draws; and twins that see too much."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console
from scipy import stats
from torch import nn
from torch.func import functional_call, grad, vmap
from vbench_autoregressive import raster, vbench_decoders
from vbench_autoregressive.gated import GatedLayer, GatedStack
from vbench_autoregressive.pixelcnn import PixelCNNDecoder
from vbench_autoregressive.pixelvae import PixelVAEDecoder

from vbench import Batch, Decoder, Incompatible, Rng, Space, Trait, build, sample
from vbench.oracles.enumeration import states
from vbench.study import make_plan
from vbench.testing import Verdict, check, checks
from vbench.testing.verdict import run_checks

GRID = Path(__file__).parents[1] / "grid.yaml"
MADE = {
    "pixelcnn": lambda x, z, mean, **given: PixelCNNDecoder(x, z, mean, channels=3, **given),
    "unconditional": lambda x, z, mean, **given: PixelCNNDecoder(x, z, mean, channels=3, conditional=False, **given),
    "pixelvae": lambda x, z, mean, **given: PixelVAEDecoder(x, z, mean, hidden=(4,), maps=2, channels=3, **given),
}
Z = Space((2,))


def made(name, shape, layers=2, reach=2, twin=False):
    """A decoder far from its start, float64; the ``twin`` has mask B where A belongs."""
    torch.manual_seed(3)
    x = Space(shape, "binary")
    decoder = MADE[name](x, Z, torch.linspace(0.2, 0.7, x.size).view(shape), layers=layers, reach=reach)
    if twin:
        first = decoder.stack.layers[0]
        condition = 0 if first.condition is None else first.condition.in_channels
        decoder.stack.layers[0] = GatedLayer(1, 3, condition, first.radius, first=False)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in decoder.double().parameters():
            parameter.add_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return decoder


def latents(*size):
    return torch.randn(*size, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def dependence(stack, shape):
    """Whether the logit of a pixel (row) depends on a pixel (column), at any of some images."""
    images = torch.randn(12, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: stack(x, None).sum(0), images)  # [H, W, N, H, W]
    size = shape[0] * shape[1]
    return jacobian.abs().sum(2).reshape(size, size) > 0


def window(shape, reach):
    """Pixels before each, in raster order, within so many rows and columns."""
    row, column = (n.flatten() for n in torch.meshgrid(*map(torch.arange, shape), indexing="ij"))
    order = torch.arange(len(row))
    near = ((row[:, None] - row).abs() <= reach) & ((column[:, None] - column).abs() <= reach)
    return near & (order[None] < order[:, None])


@pytest.mark.parametrize(("layers", "reach"), [(1, 1), (3, 1), (2, 2), (1, 3), (3, 4)])
def test_a_pixel_sees_all_of_its_window_before_it_and_nothing_else(layers, reach):
    shape = (5, 6)
    stack = made("unconditional", shape, layers, reach).stack
    assert stack.reach == reach
    seen = dependence(stack, shape)
    assert not seen.triu().any()  # strictly lower triangular
    assert torch.equal(seen, window(shape, reach))


def test_mask_b_in_the_first_layer_is_caught():
    seen = dependence(made("unconditional", (5, 6), twin=True).stack, (5, 6))
    assert seen.diagonal().any()
    assert not torch.equal(seen, window((5, 6), 2))


def test_a_horizontal_stack_alone_would_be_blind_above():
    stack = made("unconditional", (5, 6)).stack
    with torch.no_grad():
        for layer in stack.layers:
            layer.across.weight.zero_()
    seen = dependence(stack, (5, 6))
    assert not torch.equal(seen, window((5, 6), 2))


@pytest.mark.parametrize("name", MADE)
def test_probabilities_of_all_images_sum_to_one(name):
    images = states(Space((3, 3), "binary"))
    z = latents(4, 1).expand(4, len(images), 2)

    def total(decoder):
        with torch.no_grad():
            return decoder(z, None, None).log_prob(images).logsumexp(1).exp()

    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(total(made(name, (3, 3))), ones)
    assert ((total(made(name, (3, 3), twin=True)) - 1).abs() > 1e-3).all()


@pytest.mark.parametrize("name", MADE)
def test_draws_follow_the_probabilities(name):
    images, count = states(Space((2, 3), "binary")), 6000
    decoder, z = made(name, (2, 3), reach=1), latents(1, 1)
    with torch.no_grad():
        p = decoder(z.expand(1, 64, 2), None, None).log_prob(images)[0].exp()
    drawn = decoder(z.expand(1, count, 2), None, None).sample(Rng(2))[0].flatten(1)
    code = (drawn * 2 ** torch.arange(5, -1, -1)).sum(1).long()
    assert torch.equal(images.flatten(1)[code], drawn)
    counts = torch.bincount(code, minlength=64).double()
    rare = p * count < 5
    seen = [*counts[~rare].tolist(), float(counts[rare].sum())]
    expected = [*(count * p[~rare]).tolist(), float(count * p[rare].sum())]
    keep = 2 if expected[-1] else 1
    assert stats.chisquare(seen[: len(seen) - (keep == 1)], expected[: len(seen) - (keep == 1)]).pvalue > 1e-6


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("reach", [1, 3, 9])
def test_each_pixel_is_drawn_by_the_logit_that_scores_it(name, reach):
    """The window that is looked at in sampling gives, pixel by pixel, what a pass over the whole image gives."""
    decoder, z = made(name, (4, 5), layers=2, reach=reach), latents(3, 2)
    likelihood = decoder(z, None, None)
    x = likelihood.sample(Rng(4))
    u = Rng(4).uniform(3, 2, 4, 5, dtype=torch.float64)
    condition = None if likelihood.condition is None else likelihood.condition.flatten(0, 1)
    with torch.no_grad():
        logits = decoder.stack(x.flatten(0, 1), condition).view(3, 2, 4, 5) + decoder.bias
    assert torch.equal(x, (u < logits.sigmoid()).double())
    torch.manual_seed(0)
    assert torch.equal(x, decoder(z, None, None).sample(Rng(4)))
    assert not torch.equal(x, decoder(z, None, None).sample(Rng(5)))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_shown_on_a_terminal_and_nowhere_else(monkeypatch, terminal):
    screen = io.StringIO()
    monkeypatch.setattr(raster, "Console", lambda stderr: Console(file=screen, force_terminal=terminal))
    made("pixelcnn", (3, 3))(latents(1, 1), None, None).sample(Rng(0))
    assert ("pixels" in screen.getvalue()) == terminal


def test_the_latent_enters_where_it_is_said_to():
    x = (latents(1, 10).view(5, 4) > 0).double().view(1, 5, 4).expand(3, 5, 4)
    one, other = latents(2, 3)[:1], latents(2, 3)[1:]
    for name in MADE:
        decoder = made(name, (5, 4))
        same = torch.equal(*(decoder(z, None, None).log_prob(x) for z in (one, other)))
        assert same == (name == "unconditional")
    condition = made("pixelcnn", (5, 4))(one, None, None).condition
    assert condition.shape == (1, 3, 2, 1, 1)
    assert made("pixelvae", (5, 4))(one, None, None).condition.shape == (1, 3, 2, 5, 4)


@pytest.mark.parametrize("name", MADE)
def test_every_parameter_learns_alone_as_in_a_batch(name):
    decoder, z = made(name, (4, 4)), latents(2, 3)
    x = (torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.5).double()

    class Scored(nn.Module):
        """A likelihood asks its nets after the decoder's call, so a swap of parameters has to last for both."""

        def __init__(self):
            super().__init__()
            self.decoder = decoder

        def forward(self, z, x):
            return self.decoder(z, None, None).log_prob(x).mean()

    scored = Scored()
    parameters = dict(scored.named_parameters())

    def one(parameters, x, z):
        return functional_call(scored, parameters, (z[:, None], x[None]))

    lanes = vmap(grad(one), in_dims=(None, 0, 1), randomness="error")(parameters, x, z)
    whole = torch.autograd.grad(scored(z, x), list(parameters.values()))
    for found, g in zip(lanes.values(), whole, strict=True):
        torch.testing.assert_close(found.mean(0), g)
        assert g.any()


def test_shapes_and_dtypes():
    for name in MADE:
        decoder = made(name, (3, 4)).float()
        z, x = latents(5, 2).float(), torch.ones(2, 3, 4)
        likelihood = decoder(z, None, None)
        assert likelihood.log_prob(x).shape == (5, 2)
        assert likelihood.log_prob(x).dtype == likelihood.sample(Rng(1)).dtype == torch.float32
        assert likelihood.sample(Rng(1)).shape == (5, 2, 3, 4)
        with pytest.raises(Incompatible, match="no closed form"):
            _ = likelihood.mean


def test_what_comes_last_can_be_left_out_and_nan_there_does_no_harm():
    decoder = made("pixelvae", (2, 3))
    z, x = latents(4, 1), torch.tensor([[[1.0, 0, 1], [0, 1, 0]]], dtype=torch.float64)
    seen = torch.tensor([[[True, True, True], [True, False, False]]])
    hidden = torch.where(seen, x, torch.nan)
    tails = torch.cat([x.clone() for _ in range(4)])
    tails[:, 1, 1:] = states(Space((2,), "binary"))
    whole = decoder(z.expand(4, 4, 2), None, None).log_prob(tails).logsumexp(1)
    found = decoder(z, None, None).log_prob(hidden, seen)
    torch.testing.assert_close(found[:, 0], whole)
    assert torch.autograd.grad(found.sum(), decoder.bias)[0].isfinite().all()


def test_the_whole_grid_is_planned(tmp_path):
    plan = make_plan(GRID, results=tmp_path)
    assert {planned.action for planned in plan.cells} == {"run"}
    assert {planned.cell.decoder.name for planned in plan.cells} == {"bernoulli", *vbench_decoders()}


def test_what_does_not_fit_is_told():
    def reason(decoder, dataset="digits"):
        given = {"encoder": "gaussian[latent=2]", "prior": "standard-normal", "estimator": "reparam"}
        with pytest.raises(Incompatible) as why:
            build(dataset=dataset, decoder=decoder, **given)
        return str(why.value)

    for name in vbench_decoders():
        assert "needs binary-data" in reason(name, "digits[binarization=levels]")
        assert "needs binary-data and image" in reason(name, "linear-gaussian")


def test_a_local_decoder_goes_with_an_autoregressive_prior():
    pytest.importorskip("vbench_flows")
    parts = {"dataset": "digits", "encoder": "gaussian[latent=3]", "estimator": "reparam"}
    cell = build(decoder="pixelvae[reach=1]", prior="flow[structure=autoregressive]", **parts)
    x = torch.rand(4, 8, 8).round()
    estimate = cell.estimator(cell.model, Batch(x, torch.arange(4)), Rng(0))
    estimate.surrogate.mean().backward()
    for part in (cell.model.encoder, cell.model.decoder, cell.model.prior):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
    assert set(sample(cell, 2).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", vbench_decoders())
def test_judged(name):
    found = check("decoder", name)
    assert [f"{r.name}: {r.figure}" for r in found if r.verdict is not Verdict.PASS] == []


def test_the_judge_catches_mask_b():
    class Twin(Decoder):
        """Mask B.

        Source: nobody.
        """

        needs = frozenset({Trait.data("binary"), Trait.IMAGE})

        def __init__(self, x, z, mean):
            super().__init__()
            self.inner = PixelCNNDecoder(x, z, mean, channels=4)
            self.inner.stack.layers[0] = GatedLayer(1, 4, z.size, 1, first=False)

        def forward(self, z, batch, model):
            return self.inner(z, batch, model)

    asked = [one for one in checks("decoder", Twin) if one.name.startswith("normalised")]
    assert [r.verdict for r in run_checks(iter(asked))] == [Verdict.FAIL] * 2


def test_layers_share_the_reach():
    assert [layer.radius for layer in GatedStack(0, 2, 3, 5).layers] == [2, 2, 1]
    assert [layer.radius for layer in GatedStack(0, 2, 3, 1).layers] == [1, 0, 0]
