"""From a grid file, a mapping and ``--set`` to a grid, or to every problem in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vbench.beside import Beside, PluginFile
from vbench.catalogue import KINDS, Catalogue, Kind
from vbench.grid.choices import Choice, read_choices, split_top
from vbench.grid.crossing import AXES, Grid
from vbench.grid.parameters import shown
from vbench.grid.positions import (
    MAX_DEPTH,
    MAX_INT,
    GridError,
    Node,
    Place,
    Problems,
    dump,
    from_python,
    one_line,
    plain,
    put,
)
from vbench.grid.sections import read_measures, read_trains
from vbench.grid.values import MAX_ENTRIES, unknown
from vbench.grid.yaml12 import MAX_BYTES, decode, read_yaml

__all__ = ["read_grid"]

_KEYS: Final = ("name", "plugins", *AXES.values(), "seeds", "train", "measure")
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,79}")
_SEEDS: Final = 1_000_000
_ENTRY: Final = re.compile(r"[A-Za-z0-9._-]+\s*\[.*\]", re.DOTALL)


def read_grid(
    source: str | Path | Mapping[str, Any],
    catalogue: Catalogue | Callable[[Beside], Catalogue],
    overrides: Sequence[str] = (),
    *,
    where: str | None = None,
) -> Grid:
    """Read a grid.

    Args:
        source: a YAML file, or the same as a mapping.
        catalogue: what is registered, or what tells it once it is known what stands beside the grid.
        overrides: ``train.steps=10`` and the like, put over what the grid says.
        where: the name to show for the grid in errors; a file's own path without it.

    Raises:
        GridError: every problem of the grid, one line each.
    """
    problems = Problems()
    text, default, folder = None, "grid", Path()
    if isinstance(source, Mapping):
        root = from_python(source, where or "", problems)
    else:
        path, file = Path(source), one_line(where or str(source))
        text, default, folder = decode(_bytes(path, file), file), _default_name(path), path.parent
        root = read_yaml(text, file, problems)
    for order, override in enumerate(overrides):
        root = _override(root, override, order, problems)
    if not isinstance(root.value, dict):
        what = "an empty file" if root.value is None else shown(plain(root))
        problems.add(root.place, "", f"expected a mapping of {', '.join(_KEYS)}, not {what}")
        problems.finish()
    here = _beside(root.value.get("plugins"), folder, problems)
    if callable(catalogue):
        catalogue = _with_plugins(catalogue(here), here, root, problems)
    elif here.plugins:
        problems.add(root.value["plugins"].place, "plugins", "cannot be loaded here")
    grid = replace(_read(root, default, catalogue, problems), beside=here)
    if text is None or overrides:
        named = replace(root, value={**root.value, "name": Node(grid.name, root.place)})
        text = "".join(f"# --set {one_line(override)}\n" for override in overrides) + dump(named)
    return replace(grid, source=text)


def _bytes(path: Path, file: str) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise GridError([f"{file}: no such file"]) from None
    except IsADirectoryError:
        raise GridError([f"{file}: a folder, expected a grid file such as {path / 'grid.yaml'}"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GridError([f"{file}: cannot be read ({reason})"]) from None


def _default_name(path: Path) -> str:
    return path.resolve().parent.name if path.name in ("grid.yaml", "grid.yml") else path.stem


def _beside(node: Node | None, folder: Path, problems: Problems) -> Beside:
    """The grid's folder, and the plugin files that it names."""
    if node is None or node.value is None or (node.broken and not isinstance(node.value, list)):
        return Beside(str(folder.absolute()))
    if not isinstance(node.value, list):
        text = f"expected a list of Python files such as [my_method.py], not {shown(plain(node))}"
        problems.add(node.place, "plugins", text)
        return Beside(str(folder.absolute()))
    files: dict[str, PluginFile] = {}
    for i, item in enumerate(node.value):
        here = f"plugins[{i}]"
        if item.broken:
            continue
        if not isinstance(item.value, str):
            problems.add(item.place, here, f"expected a Python file such as my_method.py, not {shown(plain(item))}")
            continue
        try:
            file = PluginFile.read(item.value, folder)
        except ValueError as error:
            problems.add(item.place, here, str(error))
            continue
        if file.name in files:
            problems.add(item.place, here, f"{file.name} is given twice")
        files[file.name] = file
    return Beside(str(folder.absolute()), tuple(files.values()))


def _with_plugins(catalogue: Catalogue, here: Beside, root: Node, problems: Problems) -> Catalogue:
    """The catalogue; a plugin file that could not be loaded ends the reading, since the rest would say the same."""
    broken = {item.distribution: item.reason for item in catalogue.broken}
    for file in here.plugins:
        if file.name in broken:
            items: Sequence[Node] = root.value["plugins"].value
            named = [item.value if isinstance(item.value, str) else "" for item in items]
            i = next(i for i, name in enumerate(named) if PluginFile.named(name) == file.name)
            problems.add(items[i].place, f"plugins[{i}]", f"{file.name}: {broken[file.name]}")
    if any(file.name in broken for file in here.plugins):
        problems.finish()
    return catalogue


def _override(root: Node, override: str, order: int, problems: Problems) -> Node:
    place = Place((1, order, 0), f"--set {override}")
    key, equals, text = override.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        problems.add(place, "", "expected key=value, such as train.steps=10")
        return root
    value = _value(text.strip(), place, problems)
    return put(root, path, value, problems)


def _value(text: str, place: Place, problems: Problems, depth: int = 0) -> Node:
    """YAML, where ``[iwae[k=5], reparam]`` is a list of two entries too."""
    if _ENTRY.fullmatch(text):
        return Node(text, place)
    parts = split_top(text[1:-1]) if text.startswith("[") and text.endswith("]") else None
    if parts is None or depth == MAX_DEPTH:
        return read_yaml(text, "", problems, place)
    if not parts[-1]:  # `[]`, and a comma at the end
        parts.pop()
    items = [_value(part, place, problems, depth + 1) for part in parts]
    return Node(items, place, broken=any(item.broken for item in items))


def _read(root: Node, default: str, catalogue: Catalogue, problems: Problems) -> Grid:
    entries: Mapping[str, Node] = root.value
    nothing = Node(None, root.place)
    for key, node in entries.items():
        if key not in _KEYS:
            problems.add(node.at, key, unknown(key, _KEYS))
    axes: dict[str, Any] = {}
    for kind in KINDS:
        axes[AXES[kind]] = _axis(entries.get(AXES[kind]), kind, root, catalogue, problems)
    trains, swept = read_trains(entries.get("train", nothing), "train", problems)
    measures = read_measures(entries.get("measure", nothing), catalogue, "measure", problems, trains, swept)
    gradients = measures[0].gradients
    if any(train.steps == 0 for train in trains) and (gradients is None or gradients.at != "shared"):
        wanted = "0 steps train nothing, and only measure.gradients with at: shared measures without"
        problems.add(entries["train"].place, "train.steps", wanted)
    if any(train.patience for train in trains) and measures[0].every is None:
        wanted = "patience counts measurements along training: give measure.every"
        problems.add(entries["train"].value.get("patience", entries["train"]).place, "train.patience", wanted)
    seeds = _seeds(entries.get("seeds", nothing), problems)
    name = _name(entries.get("name", nothing), default, problems)
    problems.finish()
    return Grid(name=name, **axes, seeds=seeds, trains=tuple(trains), measures=tuple(measures), swept=swept)


def _name(node: Node, default: str, problems: Problems) -> str:
    if node.broken:
        return default
    value = default if node.value is None else plain(node)
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    start = "the file's name gives none; " if node.value is None else ""
    wanted = "a name for a folder (letters, digits, '.', '_', '-', not starting with '.', at most 80)"
    problems.add(node.place, "name", f"{start}expected {wanted}, not {shown(value)}")
    return default


def _axis(node: Node | None, kind: Kind, root: Node, catalogue: Catalogue, problems: Problems) -> tuple[Choice, ...]:
    axis = AXES[kind]
    if node is not None and node.broken and not isinstance(node.value, list):
        return ()
    if node is None:
        problems.add(root.place, axis, f"missing, expected the {kind}s to cross")
        return ()
    if node.value is None or node.value == []:
        problems.add(node.at, axis, f"expected at least one {kind}")
        return ()
    if not isinstance(node.value, list):
        return tuple(read_choices(node, kind, catalogue, axis, problems))
    found: list[Choice] = []
    for i, item in enumerate(node.value):
        found += read_choices(item, kind, catalogue, f"{axis}[{i}]", problems)
        if len(found) > MAX_ENTRIES:
            problems.add(node.at, axis, f"more than {MAX_ENTRIES} entries")
            break
    return tuple(found)


def _seeds(node: Node, problems: Problems) -> tuple[int, ...]:
    value = plain(node)
    if value is None or (node.broken and not isinstance(value, list)):
        return (0,)
    if isinstance(value, list) and value:
        seen: set[int] = set()
        for i, item in enumerate(node.value):
            here = f"seeds[{i}]"
            if item.broken:
                continue
            if type(item.value) is not int or not 0 <= item.value <= MAX_INT:
                problems.add(item.place, here, f"expected an integer >= 0, not {shown(plain(item))}")
            elif item.value in seen:
                problems.add(item.place, here, f"{item.value} is given twice")
            else:
                seen.add(item.value)
        return tuple(item.value for item in node.value)
    if type(value) is int and 1 <= value <= _SEEDS:
        return tuple(range(value))
    wanted = f"a number of seeds (1 to {_SEEDS}) or a list of distinct integers >= 0"
    problems.add(node.place, "seeds", f"expected {wanted}, not {shown(value)}")
    return (0,)
