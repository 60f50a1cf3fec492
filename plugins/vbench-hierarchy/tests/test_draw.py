"""DRAW against its equations written out by hand, exact expectations, and wrong twins of each."""

import draw_by_hand as exact
import pytest
import torch
from draw_by_hand import BATCH, STATES, Given, LearnedNormal, X
from torch import nn
from torch.func import vmap
from vbench_hierarchy import draw_encoder
from vbench_hierarchy.draw_decoder import DrawDecoder, Sketch, Stroke
from vbench_hierarchy.draw_encoder import DrawEncoder
from vbench_hierarchy.filterbank import Attention, Whole

from tests.gradients import gradient_function, keys
from vbench import Batch, Bernoulli, Decoder, DiagonalNormal, Draw, Encoder, Model, Rng, Space, frozen, sample
from vbench.assemble import Built
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.reparam import reparam
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.oracles.common import gradient
from vbench.oracles.quadrature import nodes
from vbench.testing.replicates import by_part

windows = pytest.mark.parametrize(("read", "write"), [(None, None), (2, 3), (1, None), (3, 2)])


def normals(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(side, image):
    made = Attention(4, image, side).double()
    with torch.no_grad():
        made.place.weight.copy_(0.5 * normals(5, 4, seed=2))
        made.place.bias.copy_(0.3 * normals(5, seed=3))
    return made


@torch.no_grad()
def filtered(side, image):
    """What is read and written, by the filterbank and by a double loop."""
    made, output = attention(side, image), normals(6, 4)
    picture, patch = normals(6, *image, seed=4), normals(6, side * side, seed=5)
    ours = made.read(output, picture), made.write(output, patch)
    return ours, (exact.seen(made, output, picture), exact.written(made, output, patch, image))


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("image", [(4, 3), (3, 5)])
def test_the_filterbank_is_a_double_loop(side, image):
    for mine, theirs in zip(*filtered(side, image), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def not_normalised(self, at, n, stride, log_variance):
    means = (n + 1) / 2 * (at + 1) + (torch.arange(self.side) - (self.side - 1) / 2) * stride
    return (-0.5 * (torch.arange(1, n + 1) - means[..., None]).square() / log_variance.exp()[..., None]).exp()


def counts_from_zero(bank):
    return lambda self, at, n, stride, log_variance: bank(self, at + 2 / (n + 1), n, stride, log_variance)


@pytest.mark.parametrize("wrong", [not_normalised, counts_from_zero(Attention._bank)])
def test_filters_that_do_not_sum_to_one_or_are_shifted_are_caught(wrong, monkeypatch):
    monkeypatch.setattr(Attention, "_bank", wrong)
    assert min(float((a - b).abs().max()) for a, b in zip(*filtered(2, (4, 3)), strict=True)) > 1e-2


def test_filters_sum_to_one_and_are_finite_far_outside():
    made, far = attention(2, (4, 3)), 1e3 * normals(6, 4)
    with torch.no_grad():
        made.place.weight[2:].zero_()
    rows, columns, _ = made.filters(far.requires_grad_())
    for bank in (rows, columns):
        torch.testing.assert_close(bank.sum(-1), torch.ones_like(bank[..., 0]))
    (slope,) = torch.autograd.grad(rows.square().sum(), far)
    assert slope.isfinite().all()


def test_untrained_filters_cover_the_image():
    made = Attention(4, (8, 8), 3).double()
    with torch.no_grad():
        made.place.bias.zero_()
    rows, columns, intensity = made.filters(torch.zeros(4, dtype=torch.float64))
    pixels = torch.arange(1, 9, dtype=torch.float64)
    torch.testing.assert_close((rows @ pixels)[1], torch.tensor(4.5, dtype=torch.float64))  # the middle one
    assert torch.equal(rows, columns)
    assert bool(intensity == 1)


@torch.no_grad()
def chains(read, write):
    """Log q, log p(x | z), log joint ``[K, B]`` of some latents: by the parts, and by hand."""
    made, z = exact.model(read, write), normals(4, 2, 3, 2)
    ours = made.posterior(BATCH).log_prob(z), made.log_likelihood(BATCH, z), made.log_joint(BATCH, z)
    x = BATCH.x.repeat(4, 1, 1)
    _, log_q, log_p, canvas = exact.walked(made, x, z.flatten(0, 1))
    fit = exact.log_likelihood(canvas, x)
    return ours, [value.reshape(4, 2) for value in (log_q.sum(1), fit, fit + log_p.sum(1))]


@windows
def test_densities_are_the_sums_of_their_conditionals(read, write):
    for mine, theirs in zip(*chains(read, write), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def forgets_the_canvas(self, x, sketch, state):
    """The residual is of the data alone."""
    return GLIMPSE(self, x, sketch._replace(canvas=torch.full_like(sketch.canvas, -torch.inf)), state)


def forgets_the_decoder(self, x, sketch, state):
    return GLIMPSE(self, x, sketch._replace(output=torch.zeros_like(sketch.output)), state)


def forgets_what_was_seen(self, x, sketch, state):
    return GLIMPSE(self, x, sketch, tuple(torch.zeros_like(part) for part in state))


GLIMPSE = DrawEncoder.glimpse


def of_the_last_step(walk):
    """The KL of the last step only."""

    def wrong(self, k, choose):
        made = walk(self, k, choose)
        sketch = self.decoder.start(k, len(self.x))
        state = tuple(first.expand(k, len(self.x), -1) for first in self.encoder.state)
        state = self.encoder.glimpse(self.x, sketch, state)
        for latent in made.z.unbind(2)[:-1]:
            sketch = self.decoder.step(latent, sketch)
            state = self.encoder.glimpse(self.x, sketch, state)
        return Draw(made.z, self.encoder.normal(state[0]).log_prob(made.z[:, :, -1]))

    return wrong


LAST = of_the_last_step(draw_encoder._Glimpses._walk)


@windows
@pytest.mark.parametrize("wrong", [forgets_the_canvas, forgets_the_decoder, forgets_what_was_seen])
def test_a_glimpse_that_forgets_is_another_density(read, write, wrong, monkeypatch):
    monkeypatch.setattr(DrawEncoder, "glimpse", wrong)
    ours, theirs = chains(read, write)
    assert float((ours[0] - theirs[0]).abs().max()) > 1e-2


def test_the_last_step_alone_is_another_density(monkeypatch):
    monkeypatch.setattr(draw_encoder._Glimpses, "_walk", LAST)
    ours, theirs = chains(2, 3)
    assert float((ours[0] - theirs[0]).abs().min()) > 0.1


def writes_anew(self, z, sketch):
    """What was written before is wiped off."""
    after = STROKE(self, z, sketch)
    return after._replace(canvas=after.canvas - sketch.canvas)


def times_the_intensity(self, output, patch):
    rows, columns, intensity = self.filters(output)
    return rows.mT @ patch.unflatten(-1, (self.side, self.side)) @ columns * intensity


STROKE = Stroke.forward


@pytest.mark.parametrize(
    ("where", "name", "wrong"), [(Stroke, "forward", writes_anew), (Attention, "write", times_the_intensity)]
)
def test_a_canvas_that_is_wiped_or_too_bright_is_caught(where, name, wrong, monkeypatch):
    monkeypatch.setattr(where, name, wrong)
    ours, theirs = chains(2, 3)
    assert float((ours[1] - theirs[1]).abs().min()) > 1e-2


@windows
def test_draws_take_the_noise_step_by_step_and_know_their_density(read, write):
    made, noise = exact.model(read, write), normals(4, 2, 3, 2)
    draw = made.posterior(BATCH).draw(Given(noise), 4)
    z, log_q, *_ = exact.walked(made, BATCH.x.repeat(4, 1, 1), noise=noise.flatten(0, 1))
    torch.testing.assert_close(draw.z, z.reshape(draw.z.shape))
    torch.testing.assert_close(draw.log_q, log_q.sum(1).reshape(4, 2))
    torch.testing.assert_close(draw.log_q, made.posterior(BATCH).log_prob(draw.z))


def evidence(made):
    """P(x) ``[64]`` of all images there are, by quadrature over the prior's two latents."""
    z, log_mass = nodes(60, 2)
    with torch.no_grad():
        likelihood = made.likelihood(None, z.reshape(-1, 1, *made.encoder.z.shape))
        logits = likelihood.logits[:, 0].flatten(1)
        scores = nn.functional.logsigmoid(logits) @ STATES.flatten(1).T
        scores = scores + nn.functional.logsigmoid(-logits) @ (1 - STATES).flatten(1).T
    return (scores + log_mass[:, None]).logsumexp(0).exp()


def weights_off(read, write):
    """How far E[w] and E[w z] are from p(x) and p(x) E[z | x], for every ninth image, by quadrature over the noise."""
    made = exact.model(read, write, steps=2, latent=1, size=0.25)
    p, x = evidence(made), STATES[::9]
    assert float(p.sum()) == pytest.approx(1, abs=1e-9)
    p = p[::9]
    noise, log_mass = nodes(80, 2)
    batch = Batch(x, torch.arange(len(x)))
    with torch.no_grad():
        spread = noise.reshape(-1, 1, 2, 1).expand(-1, len(x), -1, -1)
        draw = made.posterior(batch).draw(Given(spread), len(noise))
        w = (made.log_joint(batch, draw.z) - draw.log_q + log_mass[:, None]).exp()
        z, prior_mass = nodes(60, 2)
        z = z.reshape(-1, 1, 2, 1).expand(-1, len(x), -1, -1)
        joint = (made.log_likelihood(batch, z) + prior_mass[:, None]).exp()
    means = (w[..., None, None] * draw.z).sum(0) - (joint[..., None, None] * z).sum(0)
    return max(float((w.sum(0) / p - 1).abs().max()), float((means[..., 0].mT / p).abs().max()))


@windows
def test_weights_are_proper(read, write):
    assert weights_off(read, write) < 1e-5


@pytest.mark.parametrize("where", ["walk", "glimpse"])
def test_a_lost_step_breaks_the_weights_and_a_lost_canvas_does_not(where, monkeypatch):
    """Whatever q is, its weights are proper as long as it knows itself."""
    if where == "walk":
        monkeypatch.setattr(draw_encoder._Glimpses, "_walk", LAST)
        assert weights_off(2, 3) > 0.1
    else:
        monkeypatch.setattr(DrawEncoder, "glimpse", forgets_the_canvas)
        assert weights_off(2, 3) < 1e-5


@pytest.mark.parametrize("wiped", [False, True])
def test_samples_are_as_probable_as_the_density_says(wiped, monkeypatch):
    made, n = exact.model(2, 3, steps=2, latent=1), 20_000
    p = evidence(made)
    if wiped:
        monkeypatch.setattr(Stroke, "forward", writes_anew)
    x = sample(Built(made, None, None), n)
    assert x.shape == (n, *X.shape)
    code = (x.flatten(1) @ (2 ** torch.arange(5, -1, -1)).double()).long()
    seen, expected = torch.bincount(code, minlength=64), n * p
    squares = float(((seen - expected).square() / expected).sum())
    # chi-square of 63 degrees of freedom: its 1e-5 quantile is 117
    assert (squares > 1000) if wiped else (squares < 117), squares


def held_decoder(forward):
    """Q of the decoder's steps, which get no gradient through it."""
    return lambda encoder, batch, model: forward(
        encoder, batch, Model(model.encoder, frozen(model.decoder), model.prior)
    )


def ends_between_steps(self, rng, k):
    return self._walk(k, lambda _, q: q.sample(rng).detach())


def expectations(rule, k, read=2, write=3):
    """A rule's expected gradient by part, and that of the K-sample bound by hand, at the same nodes of the noise."""
    made = exact.model(read, write, steps=2, latent=1, hidden=3, prior=LearnedNormal)
    points, log_mass = nodes({1: 40, 2: 12}[k], 2 * k)
    kept = log_mass > -25
    mass, noise = log_mass[kept].exp(), points[kept].reshape(-1, k, 2, 1).movedim(1, 0)
    x = BATCH.x[1:].expand(len(mass), -1, -1)
    many = Batch(x, torch.arange(len(mass)))
    found = gradient((mass * rule(k)(made, many, Given(noise)).surrogate).sum(), made)
    log_w = exact.log_weight(made, x.repeat(k, 1, 1), noise.flatten(0, 1)).reshape(k, -1)
    truth = gradient((mass * (log_w.logsumexp(0) - torch.log(torch.tensor(float(k))))).sum(), made)
    found, truth = by_part(found), by_part(truth)
    assert min(float(g.norm()) for g in truth.values()) > 0.02
    return {part: float((found[part] - g).norm() / g.norm()) for part, g in truth.items()}


RULES = [(reparam, 1, 1e-9), (stl, 1, 1e-6), (iwae, 2, 1e-9), (dreg, 2, 1e-3), (vimco, 2, 1e-3)]


@pytest.mark.parametrize(("rule", "k", "error"), RULES)
def test_gradients_are_exact_part_by_part(rule, k, error):
    assert max(expectations(rule, k).values()) < error


@pytest.mark.parametrize("rule", [reparam, stl])
def test_gradients_without_attention_are_exact(rule):
    assert max(expectations(rule, 1, None, None).values()) < 1e-6


@pytest.mark.parametrize(("rule", "k", "error"), RULES)
def test_gradients_reach_the_decoder_through_q(rule, k, error, monkeypatch):
    monkeypatch.setattr(DrawEncoder, "forward", held_decoder(DrawEncoder.forward))
    found = expectations(rule, k)
    assert found["decoder"] > 1e-2
    assert max(found["encoder"], found["prior"]) < error


@pytest.mark.parametrize("rule", [reparam, stl])
def test_a_path_that_ends_between_steps_is_caught(rule, monkeypatch):
    monkeypatch.setattr(draw_encoder._Glimpses, "draw", ends_between_steps)
    assert expectations(rule, 1)["encoder"] > 1e-2


class OneShotEncoder(Encoder):
    """A net of x: torch's recurrent cell from a state that stands."""

    def __init__(self, draw, canvas, output):
        super().__init__()
        self.z = Space(draw.z.shape[1:])
        self.gates, self.state, self.net = (Held(draw.recurrent.gates), Copy(draw.state), Held(draw.normal.net[0]))
        self.canvas, self.output = Copy(canvas), Copy(output)

    def forward(self, batch, model):
        x, n = batch.x.flatten(1), len(batch.x)
        lacking = x - self.canvas.value.flatten().sigmoid()
        seen = torch.cat([x, lacking, self.output.value.expand(n, -1)], 1)
        state, _ = exact.cell(self.gates, seen, tuple(s.expand(n, -1) for s in self.state.value))
        loc, log_scale = self.net(state).chunk(2, 1)
        return DiagonalNormal(loc, log_scale.exp())


class OneShotDecoder(Decoder):
    """A net of z, likewise."""

    def __init__(self, draw):
        super().__init__()
        self.gates, self.patch = Held(draw.step.recurrent.gates), Held(draw.step.patch)
        self.state, self.canvas = Copy(draw.state), Copy(draw.canvas)

    def forward(self, z, batch, model):
        many = z.flatten(0, 1)
        state, _ = exact.cell(self.gates, many, tuple(s.expand(len(many), -1) for s in self.state.value))
        return Bernoulli((self.patch(state).unflatten(1, X.shape) + self.canvas.value).unflatten(0, z.shape[:2]))


class Copy(nn.Module):
    """A parameter with the values of another."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())


class Held(nn.Linear):
    """A linear map with the weights of another."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features)
        self.double().load_state_dict(linear.state_dict())


@pytest.mark.parametrize("rule", [reparam(3), iwae(3), stl(3), dreg(3)])
def test_one_step_without_attention_is_a_plain_model(rule):
    draw = exact.model(None, None, steps=1)
    encoder = OneShotEncoder(draw.encoder, draw.decoder.canvas, draw.decoder.state[0])
    plain = Model(encoder, OneShotDecoder(draw.decoder), StandardNormalPrior(encoder.z).double())
    values, slopes = [], []
    for made in (draw, plain):
        estimate = rule(made, BATCH, Rng(4))
        values.append(estimate.value)
        slopes.append(gradient(estimate.surrogate, made))
    torch.testing.assert_close(*values)
    mine, other = slopes
    same = {
        "encoder.recurrent.gates.weight": "encoder.gates.weight",
        "encoder.normal.net.0.weight": "encoder.net.weight",
        "encoder.state": "encoder.state.value",
        "decoder.step.recurrent.gates.weight": "decoder.gates.weight",
        "decoder.step.patch.weight": "decoder.patch.weight",
    }
    for name, theirs in same.items():
        torch.testing.assert_close(mine[name], other[theirs])
    # the first canvas and state are in both nets: their gradient is the sum
    torch.testing.assert_close(mine["decoder.canvas"], other["decoder.canvas.value"] + other["encoder.canvas.value"])
    first = other["decoder.state.value"].clone()
    assert float((mine["decoder.state"] - first).abs().max()) > 1e-3
    first[0] += other["encoder.output.value"]
    torch.testing.assert_close(mine["decoder.state"], first)


@pytest.mark.parametrize(("read", "write"), [(None, None), (2, 3)])
def test_frozen_and_in_lanes_it_is_what_it_is_alone(read, write):
    made = exact.model(read, write)
    still, live = frozen(made).posterior(BATCH).draw(Rng(1), 2), made.posterior(BATCH).draw(Rng(1), 2)
    assert torch.equal(still.z, live.z)
    assert live.z.requires_grad
    assert not still.z.requires_grad
    for rule in (stl(2), dreg(2)):
        one, chosen = gradient_function(made, rule, BATCH), keys(3)
        lanes, values = vmap(one, randomness="error")(chosen)
        for lane in range(3):
            gradients, value = one(chosen[lane])
            torch.testing.assert_close(values[lane], value, rtol=1e-9, atol=1e-11)
            for name, g in gradients.items():
                torch.testing.assert_close(lanes[name][lane], g, rtol=1e-7, atol=1e-10)


def test_the_canvas_starts_at_the_training_mean():
    start = DrawDecoder(X, Space((3, 2)), exact.MEAN, hidden=4, write=None).start(2, 5)
    assert isinstance(start, Sketch)
    torch.testing.assert_close(start.canvas.sigmoid(), exact.MEAN.expand(2, 5, -1, -1))
    assert isinstance(DrawEncoder(X, read=None).window, Whole)
