"""Weights that are kept, and what is made of them: the recorded numbers again, samples, codes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import vbench
from tests import toys
from tests.reliability.small import same_numbers, small
from vbench import kept
from vbench.assemble import Built
from vbench.cli import main
from vbench.grid import cell_from_spec
from vbench.measure.schedule import evaluate
from vbench.planning import make_plan
from vbench.records import Outcome, Store
from vbench.study import run
from vbench.testing.chains import chain, chain_batch

GRID = small(seeds=2, estimators=["nvil"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    run(GRID, results=root, workers=0, keep="weights")
    return root / "small"


def outcomes(study: Path) -> list[Outcome]:
    return sorted(Store(study).outcomes().values(), key=lambda outcome: outcome.seed)


def measured(built: Built, outcome: Outcome) -> list[tuple[str, str, float]]:
    cell = cell_from_spec(outcome.spec, outcome.labels)
    rows = evaluate(built, cell, 40, last=True, device=torch.device("cpu"))
    return sorted((row.metric, row.split, row.value) for row in rows)


def recorded(study: Path, outcome: Outcome) -> list[tuple[str, str, float]]:
    frame = vbench.load(study).query("step == 40 and split != 'train'")
    frame = frame[frame["cell"] == outcome.key]
    return sorted(zip(frame["metric"].astype(str), frame["split"].astype(str), frame["value"], strict=True))


def test_the_recorded_numbers_come_out_again(study: Path) -> None:
    first, second = outcomes(study)
    built = vbench.trained(study, first.key[:8])
    assert not built.model.training
    assert measured(built, first) == recorded(study, first)
    assert measured(vbench.trained(study, "nvil seed=1"), second) == recorded(study, second)
    assert measured(built, second) != recorded(study, second)
    untrained = vbench.build(
        dataset="bernoulli-bars",
        encoder="gaussian[latent=3,hidden=[8]]",
        decoder="bernoulli[hidden=[8]]",
        prior="standard-normal",
        estimator="nvil",
    )
    assert measured(untrained, first) != recorded(study, first)


def test_keeping_changes_no_key_and_no_number(study: Path, tmp_path: Path) -> None:
    run(GRID, results=tmp_path, workers=0)
    same_numbers(study, tmp_path / "small")
    assert not (tmp_path / "small" / "kept").exists()
    with pytest.raises(FileNotFoundError, match=r"no weights of .* were kept: run it again with --keep weights"):
        vbench.trained(tmp_path / "small", "seed=0")
    assert make_plan(GRID, results=tmp_path).count("run") == 0
    plan = make_plan(GRID, results=tmp_path, keep="weights")
    assert [planned.reason for planned in plan.cells] == ["no weights of it was kept"] * 2
    assert make_plan(GRID, results=study.parent, keep="weights").count("run") == 0
    assert make_plan(GRID, results=study.parent, keep="state").count("run") == 2, "weights are no state"


@pytest.mark.parametrize(("words", "count"), [("nvil", 2), ("rloo", 0)])
def test_one_cell_must_be_meant(study: Path, words: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} cells are meant by '{words}', expected one"):
        vbench.trained(study, words)


def test_weights_of_other_code_are_told(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vbench.provenance.code_digest", lambda: "another")
    with pytest.warns(UserWarning, match="of other code than runs now: vbench's own code has changed"):
        vbench.trained(study, "seed=0")


def test_verify_and_clean_know_them(study: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "small"
    shutil.copytree(study, copy)

    def said(*command: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, [str(word) for word in command])
        return result.exit_code, result.output

    assert said("verify", copy)[0] == 0
    assert "0 files" in said("clean", copy)[1]
    first, second = (kept.file_of(copy, outcome) for outcome in outcomes(copy))
    assert first is not None
    assert second is not None
    orphan = first.with_name(re.sub(r"\.[0-9a-f]{16}\.", ".0000000000000000.", first.name))
    shutil.copy(first, orphan)
    assert str(orphan) in said("clean", copy, "--dry-run")[1]
    said("clean", copy)
    assert sorted(path.name for path in (copy / "kept").iterdir()) == sorted([first.name, second.name])
    first.write_bytes(first.read_bytes()[:-1])
    second.unlink()
    code, text = said("verify", copy)
    assert code == 1
    assert f"{first}: its checksum does not match" in text.replace("\n", "") or "truncated" in text
    assert f"{second}: missing; run its cell again with --keep" in text
    assert make_plan(GRID, results=tmp_path, keep="weights").count("run") == 2


LINEAR = {
    "dataset": "linear-gaussian",
    "encoder": "gaussian[latent=2,hidden=[]]",
    "decoder": "linear-gaussian[scale=0.6]",
    "prior": "standard-normal",
    "estimator": "reparam",
}


def differs_from_the_marginal(x: torch.Tensor, built: Built) -> float:
    """Largest difference of mean and covariance to N(b, W W' + s^2), in standard errors."""
    linear, scale = built.model.decoder.linear, built.model.decoder.log_scale.exp()
    covariance = (linear.weight @ linear.weight.T + scale**2 * torch.eye(len(linear.bias))).double()
    flat = x.flatten(1).double()
    mean_error = (covariance.diag() / len(x)).sqrt()
    error = ((covariance.diag()[:, None] * covariance.diag() + covariance**2) / len(x)).sqrt()
    centred = flat - linear.bias
    found = torch.cat(
        [
            (centred.mean(0).abs() / mean_error).flatten(),
            ((centred.T @ centred / len(x) - covariance).abs() / error).flatten(),
        ]
    )
    return float(found.max())


@torch.no_grad()
def test_samples_have_the_moments_of_the_model() -> None:
    built = vbench.build(**LINEAR)
    built.model.decoder.linear.weight.mul_(3).add_(0.3)
    x = vbench.sample(built, 20_000, seed=3)
    assert differs_from_the_marginal(x, built) < 5
    assert differs_from_the_marginal(vbench.sample(built, 20_000, seed=3, mean=True), built) > 20, "no noise"
    assert torch.equal(vbench.sample(built, 1500, seed=3)[:1000], x[:1000])
    assert not torch.equal(vbench.sample(built, 10, seed=4), vbench.sample(built, 10, seed=3))
    assert vbench.sample(built, 0).shape == (0, *built.data.x.shape)


@torch.no_grad()
def test_codes_are_draws_of_the_posterior() -> None:
    built = vbench.build(**LINEAR)
    x = torch.cat([built.data.train, built.data.test])[:1100]
    z = vbench.encode(built, x, k=400, seed=1)
    assert z.shape == (400, 1100, 2)
    q = built.model.posterior(vbench.Batch(x.float(), torch.arange(len(x))))
    off = ((z.mean(0) - q.loc) / (q.scale / 20)).abs()
    assert off.max() < 5.5
    assert ((z.std(0) / q.scale - 1).abs() < 0.25).all()
    shifted = ((z.mean(0) - q.loc.roll(1, 0)) / (q.scale / 20)).abs()
    assert shifted.max() > 20, "codes of the wrong rows"
    assert vbench.encode(built, x[:0]).shape == (1, 0, 2)


def test_bytes_are_seen_as_in_training_and_wrong_shapes_are_told() -> None:
    built = vbench.build(**LINEAR | {"dataset": "digits", "decoder": "bernoulli"})
    images = built.data.test[:4]
    assert vbench.encode(built, images).shape == (1, 4, 2)
    assert torch.equal(vbench.encode(built, images, seed=2), vbench.encode(built, images, seed=2))
    assert not torch.equal(vbench.encode(built, images, seed=2), vbench.encode(built, 255 - images, seed=2))
    with pytest.raises(ValueError, match="expected data"):
        vbench.encode(built, images[:, :3])


def sequences_that_end(n: int) -> tuple[Built, torch.Tensor, torch.Tensor]:
    """A cell of ``n`` test sequences, every third of which ends a step before the others; its data and their mask."""
    batch = chain_batch(n)
    assert batch.mask is not None
    return vbench.build(**LINEAR)._replace(model=chain(), data=toys.masked(batch)), batch.x, batch.mask


def test_codes_are_of_what_is_observed() -> None:
    cell, x, mask = sequences_that_end(1100)  # more than are encoded at once
    z = vbench.encode(cell, x, k=2, mask=cell.data.masks["test"])
    ended = ~mask.any(-1)
    assert (z[:, ended] == 0).all(), "latents of steps that are not there"
    assert (z[:, ~ended] != 0).all()
    assert torch.equal(vbench.encode(cell, torch.where(mask, x, 1 - x), k=2, mask=mask), z), "what is hidden was seen"
    whole = vbench.encode(cell, x, k=2, mask=torch.ones_like(mask))
    assert (whole != 0).all()
    complete = cell._replace(data=replace(cell.data, masks={}))
    assert torch.equal(vbench.encode(complete, x, k=2), whole), "data without masks need none"


def test_masks_that_are_missing_or_of_another_shape_are_told() -> None:
    cell, x, mask = sequences_that_end(4)
    with pytest.raises(ValueError, match=r"^these data come with masks: give mask=, as cell.data.masks\['test'\]$"):
        vbench.encode(cell, x)
    for wrong in (mask[:3], mask[..., :1], mask.any(-1)):
        with pytest.raises(ValueError, match=r"^expected a mask \[4, 3, 2\], as the data, not \["):
            vbench.encode(cell, x, mask=wrong)
