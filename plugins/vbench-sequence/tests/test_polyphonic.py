"""The four sets of pianorolls, where their files are at hand, and what is made of such files."""

import io

import numpy as np
import pytest
import torch
from scipy.io import savemat
from vbench_sequence import polyphonic

from vbench import DataError

# sequences and steps in all of each split, and the longest
KNOWN = {
    "jsb": ((229, 13807), (76, 4602), (77, 4725), 160),
    "musedata": ((524, 245202), (135, 82755), (124, 64339), 4273),
    "nottingham": ((694, 176561), (173, 45513), (170, 44463), 1793),
    "piano-midi": ((87, 75911), (12, 8540), (25, 19036), 3857),
}
FACTORIES = {
    "jsb": polyphonic.jsb,
    "musedata": polyphonic.musedata,
    "nottingham": polyphonic.nottingham,
    "piano-midi": polyphonic.piano_midi,
}


def at_hand(name, **given):
    import os
    from pathlib import Path

    file = polyphonic.FILES[name]
    root = os.environ.get("VBENCH_DATA")
    if not root or not (Path(root).expanduser() / "polyphonic" / file.name).is_file():
        pytest.skip(f"{file.name} is not in $VBENCH_DATA/polyphonic")
    return FACTORIES[name](**given)


@pytest.mark.parametrize("name", KNOWN)
def test_sequences_are_whole_and_padded(name):
    data = at_hand(name)
    *splits, steps = KNOWN[name]
    assert data.x.shape == (steps, 88)
    for split, (count, total) in zip(("train", "valid", "test"), splits, strict=True):
        rows, mask = getattr(data, split), data.masks[split]
        assert rows.shape == mask.shape == (count, steps, 88)
        alive = mask[..., 0]
        assert int(alive.sum()) == total
        assert (alive.int().diff(dim=1) <= 0).all()
        assert not rows[~alive].any()
        assert set(rows[0].unique().tolist()) == {0, 255}


def test_pieces_that_are_cut_lose_nothing():
    whole, cut = at_hand("jsb"), at_hand("jsb", longest=50)
    assert cut.x.shape == (50, 88)
    assert cut.digest != whole.digest
    for split in ("train", "valid", "test"):
        notes = [getattr(data, split)[data.masks[split][..., 0]] for data in (whole, cut)]
        assert torch.equal(*notes)


def written(**rolls):
    content = io.BytesIO()
    cells = {}
    for split in ("train", "valid", "test"):
        cells[f"{split}data"] = np.empty((1, len(rolls[split])), dtype=object)
        for i, roll in enumerate(rolls[split]):
            cells[f"{split}data"][0, i] = roll
    savemat(content, cells)
    return content.getvalue()


def test_a_file_is_read_roll_by_roll(monkeypatch):
    rng = np.random.default_rng(1)
    rolls = {
        split: [rng.integers(0, 2, (length, 88)).astype(np.uint8) for length in lengths]
        for split, lengths in (("train", (3, 5)), ("valid", (2, 2)), ("test", (4, 1)))
    }
    monkeypatch.setattr(polyphonic, "content", lambda dataset, file: written(**rolls))
    data = polyphonic.jsb()
    assert data.x.shape == (5, 88)
    for split, given in rolls.items():
        for row, mask, roll in zip(getattr(data, split), data.masks[split], given, strict=True):
            assert torch.equal(row[mask[:, 0]], 255 * torch.from_numpy(roll))
    rolls["test"][0][0, 0] = 2
    with pytest.raises(DataError, match="zeros and ones of 88 keys"):
        polyphonic.jsb()


def test_a_file_that_is_missing_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("VBENCH_DATA", str(tmp_path))
    (tmp_path / "polyphonic").mkdir()
    (tmp_path / "polyphonic" / "JSB_Chorales.mat").write_bytes(b"no pianoroll")
    with pytest.raises(DataError, match=r"JSB_Chorales\.mat has 12 bytes"):
        polyphonic.jsb()
