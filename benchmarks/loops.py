"""The same variational autoencoder trained by vbench, by hand, by Pyro and by Pythae, and its matrix products alone.

Each maker returns a function that trains ``STEPS`` steps of one minibatch of ``BATCH`` (Pythae's: an epoch). All see
the same bytes, nets, batch size, learning rate and optimiser, in float32 on one thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from vbench import Estimator, Model, Space
from vbench.assemble import Built
from vbench.builtin.datasets.tensors import TensorDataset
from vbench.builtin.decoders.bernoulli import BernoulliDecoder
from vbench.builtin.encoders.gaussian import GaussianEncoder
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.grid import Train
from vbench.measure.throughput import Stopwatch
from vbench.training import train

STEPS, BATCH, LR = 20, 100, 1e-3
Loop = Callable[[], object]


@dataclass(frozen=True)
class Task:
    """Sizes of one comparison.

    Attributes:
        rows: training images.
        side: pixels of an image's side.
        hidden: widths of the encoder; the decoder mirrors it.
        latent: latent variables.
    """

    rows: int
    side: int
    hidden: tuple[int, ...]
    latent: int

    @property
    def pixels(self) -> int:
        return self.side**2

    def data(self) -> TensorDataset:
        """Random bytes: their values do not change how long anything takes."""
        generator = torch.Generator().manual_seed(0)
        shape = (self.rows, self.side, self.side)
        train = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return TensorDataset(train, train[:1], train[:1], Space(shape[1:], "binary"), "0" * 64, "dynamic")

    def model(self, seed: int = 0) -> Model:
        """Vbench's own parts."""
        torch.manual_seed(seed)
        x = Space((self.side, self.side), "binary")
        encoder = GaussianEncoder(x, self.latent, self.hidden)
        decoder = BernoulliDecoder(x, encoder.z, torch.full(x.shape, 0.5), self.hidden[::-1])
        return Model(encoder, decoder, StandardNormalPrior(encoder.z))

    def nets(self) -> tuple[nn.Sequential, nn.Sequential]:
        """The same layers, as anyone writes them."""

        def stack(*sizes: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for left, right in pairwise(sizes):
                layers += [nn.Linear(left, right), nn.Tanh()]
            return nn.Sequential(*layers[:-1])

        return (
            stack(self.pixels, *self.hidden, 2 * self.latent),
            stack(self.latent, *self.hidden[::-1], self.pixels),
        )

    def layers(self) -> list[nn.Linear]:
        """All linear layers, the encoder's first."""
        return [layer for net in self.nets() for layer in net if isinstance(layer, nn.Linear)]


MNIST = Task(10_000, 28, (200, 200), 50)
DIGITS = Task(1_500, 8, (64,), 16)


def vbench(task: Task, estimator: Estimator) -> Loop:
    """The loop that a cell is trained by, with its stopwatch, reports and records of the bound."""

    class Blocks:
        def __contains__(self, step: int) -> bool:
            return step % STEPS == 0

    settings = Train(steps=10**9, batch=BATCH, lr=LR)
    built = Built(task.model(), estimator, task.data())
    running = train(built, settings, 0, Blocks(), Stopwatch(), lambda step, steps: None)  # type: ignore[arg-type]
    return lambda: next(running)


def minibatch(pixels: Tensor) -> Tensor:
    """Rows of bytes in memory, binarised."""
    return torch.bernoulli(pixels[torch.randint(0, len(pixels), (BATCH,))] / 255)


def by_hand(task: Task, **options: bool) -> Loop:
    """What a researcher writes in an afternoon."""
    encoder, decoder = task.nets()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], LR, **options)
    pixels = task.data().train.flatten(1)

    def steps() -> None:
        for _ in range(STEPS):
            x = minibatch(pixels)
            loc, log_scale = encoder(x).chunk(2, -1)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            fit = functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="none").sum(-1)
            kl = (0.5 * (loc.square() + (2 * log_scale).exp() - 1) - log_scale).sum(-1)
            loss = (fit + kl).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def pyro_svi(task: Task) -> Loop:
    """SVI.step with Trace_ELBO, its checks of values switched off."""
    import pyro
    from pyro import distributions
    from pyro.infer import SVI, Trace_ELBO

    encoder, decoder = task.nets()

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            zero = x.new_zeros(len(x), task.latent)
            z = pyro.sample("z", distributions.Normal(zero, zero + 1).to_event(1))
            pyro.sample("x", distributions.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = encoder(x).chunk(2, -1)
            pyro.sample("z", distributions.Normal(loc, log_scale.exp()).to_event(1))

    pyro.clear_param_store()
    svi = SVI(model, guide, pyro.optim.Adam({"lr": LR}), Trace_ELBO())
    pixels = task.data().train.flatten(1)

    def steps() -> None:
        with pyro.validation_enabled(False):
            for _ in range(STEPS):
                svi.step(minibatch(pixels))

    return steps


def pythae_trainer(task: Task) -> Loop:
    """BaseTrainer's own epoch: every row once, as floats that are bits already, since it binarises nothing."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    encoder_net, decoder_net = task.nets()

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = encoder_net

        def forward(self, x: Tensor) -> ModelOutput:
            loc, log_covariance = self.net(x).chunk(2, -1)
            return ModelOutput(embedding=loc, log_covariance=log_covariance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = decoder_net

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    config = VAEConfig(input_dim=(task.pixels,), latent_dim=task.latent, reconstruction_loss="bce")
    bits = torch.bernoulli(task.data().train.flatten(1) / 255)
    trainer = BaseTrainer(
        VAE(config, encoder=Encoder(), decoder=Decoder()),
        BaseDataset(bits, torch.zeros(len(bits))),
        training_config=BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, learning_rate=LR, no_cuda=True
        ),
    )
    trainer.prepare_training()
    return lambda: trainer.train_step(1)


def matrix_products(task: Task) -> tuple[Loop, float]:
    """The products of a step's forward and backward pass on fixed matrices, and their floating-point operations."""
    sizes = [(layer.in_features, layer.out_features) for layer in task.layers()]
    inputs, weights, slopes = (
        [torch.randn(shape) for shape in shapes]
        for shapes in (
            [(BATCH, left) for left, _ in sizes],
            [(right, left) for left, right in sizes],
            [(BATCH, right) for _, right in sizes],
        )
    )

    def steps() -> None:
        for _ in range(STEPS):
            for number, (x, w, g) in enumerate(zip(inputs, weights, slopes, strict=True)):
                torch.mm(x, w.t())
                torch.mm(g.t(), x)
                if number:  # data have no gradient
                    torch.mm(g, w)

    products = 3 * sum(left * right for left, right in sizes) - sizes[0][0] * sizes[0][1]
    return steps, 2.0 * STEPS * BATCH * products
