"""The model's three densities, and its frozen twin: the same numbers, and no gradient to any parameter."""

import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations

from tests import toys
from vbench.families import DiagonalNormal
from vbench.model import Model, frozen, rebuilt
from vbench.rng import Rng
from vbench.types import Draw, Encoder, Space


def test_the_log_joint_is_prior_and_likelihood():
    model, batch = toys.gaussian(), toys.batch()
    z = model.posterior(batch).draw(Rng(0), 3).z
    expected = model.decoder(z, batch, model).log_prob(batch.x) + model.prior(batch, model).log_prob(z)
    torch.testing.assert_close(model.log_joint(batch, z), expected)
    assert model.log_joint(batch, z).shape == (3, 5)
    generated = model.likelihood(None, model.prior_density(None).draw(Rng(1), 4).z)
    assert generated.sample(Rng(2)).shape == (4, 1, 4)


def test_unobserved_entries_do_not_count():
    model, batch = toys.gaussian(), toys.batch()
    z = model.posterior(batch).draw(Rng(0), 3).z
    mask = torch.zeros_like(batch.x)
    hidden = batch._replace(mask=mask)
    assert torch.equal(model.log_joint(hidden, z), model.prior_density(batch).log_prob(z))
    mask[2, 1] = 1
    assert not torch.equal(model.log_likelihood(hidden, z)[:, 2], torch.zeros(3, dtype=torch.float64))
    assert not model.log_likelihood(hidden, z)[:, [0, 1, 3, 4]].any()


def test_of_a_hierarchy_the_decoder_sees_the_layer_next_to_the_data():
    model, batch = toys.gaussian(prior="standard"), toys.batch()
    z = torch.linspace(-1, 2, 30, dtype=torch.float64).reshape(3, 5, 2)
    above = torch.full((3, 5, 3), 0.7, dtype=torch.float64)
    expected = model.log_likelihood(batch, z)
    model.encoder.z = Space((5,), layers=(2, 3))
    assert torch.equal(model.log_likelihood(batch, torch.cat([z, above], -1)), expected)
    assert not torch.equal(model.log_likelihood(batch, torch.cat([above, z], -1)), expected)
    assert Space((5, 2), "binary", layers=(2, 3)).bottom == Space((2, 2), "binary")
    assert Space((5, 2)).bottom == Space((5, 2))


class Late(Encoder):
    """Its posterior evaluates a net whenever a density is asked for, as flows and refined posteriors do."""

    def __init__(self, net, inputs=4, latent=2):
        super().__init__()
        self.z = Space((latent,))
        self.net = net
        self.out = nn.Linear(3, 2 * latent)

    def forward(self, batch, model):
        return _LatePosterior(self, batch, model)


class _LatePosterior:
    def __init__(self, encoder, batch, model):
        self.encoder, self.batch, self.model = encoder, batch, model

    def _normal(self):
        hidden = self.encoder.net(self.batch.x)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        loc, log_scale = self.encoder.out(hidden).chunk(2, -1)
        return DiagonalNormal(loc, log_scale.exp())

    def draw(self, rng, k):
        z = self._normal().draw(rng, k).z
        return Draw(z, self.log_prob(z))

    def log_prob(self, z):
        return self._normal().log_prob(z) + 0.01 * self.model.log_joint(self.batch, z)


class Flat(nn.Module):
    """Keeps second references to one parameter in every plain container."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3))
        self.list, self.pair, self.table = [self.weight], (self.weight, 1), {"deep": [{"w": self.weight}]}
        self.inner = nn.Linear(3, 3)
        self.module = [self.inner]

    def forward(self, x):
        every = self.list[0] + self.pair[0] + self.table["deep"][0]["w"]
        return self.module[0](x @ every)


class Shared(nn.Module):
    """The same layer twice, and one parameter under two names."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.second, self.tied = self.first, nn.Linear(4, 3)
        self.tied.weight = self.first.weight

    def forward(self, x):
        return self.first(x) + self.second(x).tanh() + self.tied(x)


def old_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Linear(4, 3))


NETS = {
    "linear": lambda: nn.Linear(4, 3),
    "recurrent": lambda: nn.LSTM(4, 3, num_layers=2),
    "gated": lambda: nn.GRU(4, 3),
    "weight-norm": lambda: parametrizations.weight_norm(nn.Linear(4, 3)),
    "spectral-norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 3)),
    "old-weight-norm": old_weight_norm,
    "parameter-list": lambda: _Listed(),
    "containers": Flat,
    "shared": Shared,
    "batch-norm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
}
every = pytest.mark.parametrize("net", NETS.values(), ids=NETS)


class _Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4, 3))])
        self.table = nn.ParameterDict({"bias": nn.Parameter(torch.ones(3))})

    def forward(self, x):
        return x @ (self.weights[0] + self.weights[1]) + self.table["bias"]


def build(net):
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        base = toys.gaussian()
        model = Model(Late(net()), base.decoder, base.prior).double().eval()
    finally:
        torch.random.set_rng_state(torch_state)
    return model, toys.batch()


@every
def test_no_gradient_reaches_a_parameter_through_the_clone_however_late(net):
    model, batch = build(net)
    stop = frozen(model)
    z = model.posterior(batch).draw(Rng(0), 2).z.detach().requires_grad_()
    late = stop.posterior(batch)
    total = stop.log_joint(batch, z).sum() + late.log_prob(z).sum() + late.draw(Rng(1), 2).z.sum()
    parameters = list(model.parameters())
    slopes = torch.autograd.grad(total, [z, *parameters], allow_unused=True)
    assert slopes[0].abs().sum() > 0
    assert all(slope is None for slope in slopes[1:])
    assert not any(parameter.requires_grad for parameter in stop.parameters())
    assert all(parameter.requires_grad for parameter in parameters)


@every
def test_the_clone_gives_the_same_numbers(net):
    model, batch = build(net)
    z = model.posterior(batch).draw(Rng(0), 2).z
    stop = frozen(model)
    torch.testing.assert_close(stop.posterior(batch).log_prob(z), model.posterior(batch).log_prob(z))
    torch.testing.assert_close(stop.log_joint(batch, z), model.log_joint(batch, z))
    assert stop.encoder.z is model.encoder.z
    assert [name for name, _ in stop.named_parameters()] == [name for name, _ in model.named_parameters()]


@every
def test_the_clone_shows_current_values_after_a_step(net):
    model, batch = build(net)
    stop = frozen(model)
    z = model.posterior(batch).draw(Rng(0), 2).z.detach()
    before = stop.posterior(batch).log_prob(z)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (-model.posterior(batch).log_prob(z).mean()).backward()
    optimizer.step()
    assert not torch.allclose(stop.posterior(batch).log_prob(z), before)
    torch.testing.assert_close(stop.posterior(batch).log_prob(z), model.posterior(batch).log_prob(z).detach())


@every
def test_the_original_is_left_as_it_was(net):
    model, batch = build(net)
    names, ids = zip(*((name, id(p)) for name, p in model.named_parameters()), strict=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    frozen(model).posterior(batch).draw(Rng(0), 2)
    assert (names, ids) == tuple(zip(*((name, id(p)) for name, p in model.named_parameters()), strict=True))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    model.posterior(batch).draw(Rng(0), 2).z.sum().backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's own, for weight_norm under vmap
@pytest.mark.parametrize("name", ["linear", "weight-norm", "parameter-list", "containers"])
def test_it_works_on_stacked_parameters_inside_transforms(name):
    model, batch = build(NETS[name])

    class Call(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, z):
            live, stop = self.model.posterior(batch), frozen(self.model).posterior(batch)
            return live.log_prob(z).sum() + 2 * stop.log_prob(z).sum(), live.log_prob(z).sum()

    call = Call()
    z = model.posterior(batch).draw(Rng(0), 2).z.detach()
    lanes = {name: torch.stack([p.detach(), 1.1 * p.detach()]) for name, p in call.named_parameters()}

    def slopes(index):
        def objective(parameters, z):
            return functional_call(call, parameters, (z,))[index]

        return vmap(grad(objective, argnums=(0, 1)), in_dims=(0, None), randomness="error")(lanes, z)

    with_clone, alone = slopes(0), slopes(1)
    for name in lanes:
        torch.testing.assert_close(with_clone[0][name], alone[0][name])
    torch.testing.assert_close(with_clone[1], 3 * alone[1])
    assert not torch.allclose(alone[1][0], alone[1][1])


def test_a_recurrent_net_inside_functional_call_sees_the_given_parameters():
    model, batch = build(NETS["recurrent"])
    z = model.posterior(batch).draw(Rng(0), 2).z.detach()

    class Call(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return frozen(self.model).posterior(batch).log_prob(z).sum()

    call = Call()
    moved = {name: 1.1 * p.detach() for name, p in call.named_parameters()}
    inside = functional_call(call, moved, ())
    original = float(frozen(model).posterior(batch).log_prob(z).sum())
    with torch.no_grad():
        for name, parameter in call.named_parameters():
            parameter.copy_(moved[name])
    torch.testing.assert_close(inside, model.posterior(batch).log_prob(z).sum().detach())
    assert original != pytest.approx(float(inside))


def test_shared_modules_and_tied_parameters_stay_shared():
    model, _ = build(NETS["shared"])
    net = frozen(model).encoder.net
    assert net.first is net.second
    assert net.tied.weight is net.first.weight
    assert net.first is not model.encoder.net.first


def test_parts_see_the_clone_not_the_original():
    model, batch = toys.gaussian(prior="vamp"), toys.batch()
    z = model.posterior(batch).draw(Rng(0), 2).z.detach()
    assert model.prior_density(batch).log_prob(z).requires_grad
    assert not frozen(model).prior_density(batch).log_prob(z).requires_grad
    # the encoder has its direct part in the live prior
    (slope,) = torch.autograd.grad(model.prior_density(batch).log_prob(z).sum(), [model.encoder.net[0].weight])
    assert slope.abs().sum() > 0


@every
def test_a_rebuilt_module_computes_with_what_it_is_given_and_leaves_the_original_alone(net):
    model, batch = build(net)
    z = model.posterior(batch).draw(Rng(0), 2).z.detach()
    before = dict(model.named_parameters())
    twin = rebuilt(model, lambda t: 1.1 * t if t.requires_grad else t)
    through = twin.posterior(batch).log_prob(z).sum()
    slopes = torch.autograd.grad(through, list(model.encoder.parameters()))
    assert all(slope.isfinite().all() for slope in slopes)
    assert all(before[name] is p for name, p in model.named_parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    torch.testing.assert_close(through, model.posterior(batch).log_prob(z).sum())
    expected = torch.autograd.grad(model.posterior(batch).log_prob(z).sum(), list(model.encoder.parameters()))
    for slope, wanted in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope, 1.1 * wanted)


def test_a_decoder_sees_latents_of_more_digits_in_its_own_and_none_of_fewer():
    model, batch = toys.gaussian().float(), toys.batch()
    z = torch.randn(2, len(batch.x), 2, dtype=torch.float64)
    assert model.log_likelihood(batch._replace(x=batch.x.float()), z).dtype == torch.float32
    with pytest.raises(RuntimeError, match="dtype"):
        model.double().log_likelihood(batch, z.float())
