"""Parts under test among plain partners: a small task, and a model around the accused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from vbench.catalogue import Kind
from vbench.families import Bernoulli, DiagonalNormal
from vbench.model import Model
from vbench.registry import load_registry
from vbench.rng import Rng
from vbench.testing.chains import ChainDecoder, ChainEncoder, ChainPrior
from vbench.testing.models import AffineDecoder, AffineEncoder, FactorizedPrior
from vbench.testing.subject import Subject
from vbench.testing.verdict import Check, Outcome, Verdict
from vbench.types import Batch, Decoder, Draw, Prior, Space, Trait

__all__ = [
    *("LATENTS", "data_spaces", "latents", "model_of", "randomize", "registered", "source_check", "task"),
    "unrolls",
]

LATENTS: Final = (Space((1,)), Space((2,)), Space((3,), "binary"), Space((2, 3), "categorical"))
SURFACES: Final = tuple(Space((n,), support) for support in ("simplex", "sphere") for n in (2, 3))
SEQUENCES: Final = (Space((2, 1)),)  # latents [T, D]
HIERARCHIES: Final = (Space((2,), layers=(1, 1)),)


def task(x: Space, z: Space | None = None) -> dict[str, Any]:
    """What a factory may ask for."""
    mean = torch.linspace(0.2, 0.6, x.size).reshape(x.shape)
    data = batch_of(x, 20).x.float()
    given = {"x": x, "n": 20, "mean": mean, "data": data}
    return given if z is None else given | {"z": z}


def batch_of(x: Space, size: int = 3, missing: bool = False) -> Batch:
    """Data of that space that no model made; of ``missing`` ones some entries are hidden, and no numbers."""
    generator = torch.Generator().manual_seed(13)
    values = torch.randn(size, *x.shape, generator=generator, dtype=torch.float64)
    drawn = {"binary": (values > 0.2).double(), "unit": values.sigmoid()}.get(x.support, values + 0.3)
    if x.support == "levels":
        drawn = (values.sigmoid() * (x.levels - 1)).round() / (x.levels - 1)
    if missing:
        seen = ((torch.arange(drawn.numel()) + 1) % 3 > 0).view(drawn.shape)
        return Batch(torch.where(seen, drawn, torch.nan), torch.arange(size), mask=seen)
    return Batch(drawn, torch.arange(size))


def randomize(part: Any, size: float = 0.2) -> Any:
    """The part in float64, its parameters moved off their start."""
    generator = torch.Generator().manual_seed(17)
    part.double()
    with torch.no_grad():
        for parameter in part.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(size * noise / max(1.0, parameter.shape[-1] if parameter.dim() > 1 else 1.0) ** 0.5)
    return part


def model_of(x: Space, z: Space, encoder: Any = None, decoder: Any = None, prior: Any = None) -> Model:
    """A model with plain parts where none is given, float64; they unroll in time where one that is given does."""
    if any(Trait.STEPS in part.needs | part.offers for part in (encoder, decoder, prior) if part is not None):
        return Model(
            encoder or randomize(ChainEncoder(x, z)),
            decoder or randomize(ChainDecoder(x, z), 0.5),
            prior or randomize(ChainPrior(x, z)),
        ).double()
    flat = Space((x.size,), x.support)
    asked = frozenset() if encoder is None else encoder.needs
    fills = Trait.MISSING in asked and z.shape == x.shape
    plain: Any = _Clamp if fills else _FlatDecoder
    return Model(
        encoder or randomize(_FlatEncoder(flat, z)),
        decoder or randomize(_offering("decoder", asked, x, z) or plain(flat, z.bottom, x.shape), 0.5),
        prior or randomize(_offering("prior", asked, x, z) or _plain_prior(z)),
    ).double()


def _plain_prior(z: Space) -> Prior:
    return Uniform(z) if z.support in ("simplex", "sphere") else FactorizedPrior(z)


def _offering(kind: Kind, asked: frozenset[str], x: Space, z: Space) -> Any:
    """A registered part that offers what an encoder asks for (its steps, to share them); None where none does."""
    part = next(registered(kind, asked), None)
    return part.build(task(x, z), **part.small()) if part else None


def registered(kind: Kind, asked: frozenset[str]) -> Iterator[Subject]:
    """What is registered of a kind and offers any of these traits."""
    if not asked:
        return
    registry = load_registry()
    for name in registry.catalogue().names(kind):
        found = registry.get(kind, name)
        if asked & frozenset(getattr(found.factory, "offers", ())):
            yield Subject(found.component, found.factory)


class Uniform(Prior):
    """Even over a simplex or a sphere."""

    offers = frozenset({Trait.FACTORIZED_PRIOR})

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.support = z.support
        self.register_buffer("origin", torch.zeros(1, *z.shape))

    def forward(self, batch: Batch | None, model: Any) -> Any:
        """p(z)."""
        return _Even(self.origin, self.support == "sphere")  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Even:
    like: Tensor
    sphere: bool

    def draw(self, rng: Rng, k: int) -> Draw:
        shape = (k, *self.like.shape)
        raw = (
            rng.normal(*shape, dtype=self.like.dtype)
            if self.sphere
            else -rng.uniform(*shape, dtype=self.like.dtype).log()
        )
        z = raw / raw.norm(p=2 if self.sphere else 1, dim=-1, keepdim=True)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z: Tensor) -> Tensor:
        n = z.shape[-1]
        area = math.log(2) + n / 2 * math.log(math.pi) - math.lgamma(n / 2)
        return torch.zeros_like(z[..., 0]) - (area if self.sphere else -math.lgamma(n))


class _FlatEncoder(AffineEncoder):
    """The plain encoder, on data of any shape."""

    def forward(self, batch: Batch, model: Any) -> Any:
        return super().forward(batch._replace(x=batch.x.flatten(1)), model)


class _FlatDecoder(AffineDecoder):
    """The plain decoder, for data of any shape."""

    def __init__(self, flat: Space, z: Space, shape: tuple[int, ...]) -> None:
        super().__init__(flat, z)
        self.shape = shape

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Any:
        made = super().forward(z, batch, model)
        if isinstance(made, Bernoulli):
            return Bernoulli(made.logits.reshape(*made.logits.shape[:2], *self.shape))
        shape = (*made.loc.shape[:2], *self.shape)
        return DiagonalNormal(made.loc.reshape(shape), made.scale.reshape(shape))


class _Clamp(Decoder):
    """Data are a part of the latent: certain where they agree with it, impossible elsewhere."""

    def __init__(self, flat: Space, z: Space, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net = nn.Identity()

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Any:
        return _Certain(self.net(z))


@dataclass(frozen=True)
class _Certain:
    z: Tensor

    def log_prob(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        agree = (self.z == x) if mask is None else (self.z == x) | ~mask
        return torch.where(agree.flatten(2).all(2), 0.0, -math.inf).to(self.z)


def latents(subject: Subject, x: Space) -> list[tuple[Space, Any]]:
    """The latent spaces that a decoder or prior is made for, with one for each.

    Latents [T, D] where it unrolls in time, or no flat ones serve; the data's own where no other serves.

    Raises:
        Exception: it can be made for none; what the last attempt raised.
    """
    found: list[tuple[Space, Any]] = []
    error: Exception | None = None
    for z in (*LATENTS, *SURFACES, *SEQUENCES, *HIERARCHIES, x):
        if found and (z == x or (z in SEQUENCES and not unrolls(subject))):
            continue
        try:
            part = subject.build(task(x, z), **(subject.small() if z in HIERARCHIES else {}))
        except Exception as raised:
            error = raised
            continue
        asked = {trait for trait in part.needs if trait.endswith("-latent")}
        layered = (Trait.LAYERS in part.needs) == (z in HIERARCHIES)
        if layered and asked <= {Trait.latent(z.support)} and (asked or z not in SURFACES):
            found.append((z, part))
    if not found and error is not None:
        raise error
    return found


def unrolls(subject: Subject) -> bool:
    """Whether its class says that it works step by step."""
    declared: list[Any] = [getattr(subject.factory, name, None) for name in ("needs", "offers")]
    return any(isinstance(traits, frozenset) and Trait.STEPS in traits for traits in declared)


def data_spaces(needs: frozenset[str]) -> list[Space]:
    """Small data for a part with these needs: all states of bits and levels and a line of real ones can be summed.

    A part that asks for no support serves real data, or should say what it needs. One for missing entries is asked of
    bits, which can be summed over.
    """
    image, steps = Trait.IMAGE in needs, Trait.STEPS in needs
    binary = Space((3, 3) if image else (2, 2) if steps else (4,), "binary")
    real = Space((1, 1) if image else (2, 1) if steps else (1,))
    levels = Space((1, 2) if image else (2,), "levels", levels=5)
    asked = {trait for trait in needs if trait.endswith("-data")}
    spaces = (binary, real, levels) if Trait.MISSING in needs else (real, binary, levels)
    return [space for space in spaces if asked <= {Trait.data(space.support)}][:1]


def source_check(subject: Subject) -> Check:
    """Whether the documentation says where it is from."""
    source = subject.component.source
    figure = source[:80] or "its documentation has no line 'Source: author, year, title, id'"
    return Check("source", lambda: Outcome(Verdict.PASS if source else Verdict.FAIL, figure))
