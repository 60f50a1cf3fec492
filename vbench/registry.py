"""The plugin host: every component by kind and name, with where it came from.

Built-ins are registered through the same hooks as strangers. A plugin that cannot be loaded is listed with the reason
and costs only the cells that need it; two owners of one name are an error that names both.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final, get_type_hints

import pluggy

from vbench import hookspecs
from vbench.beside import PluginFile, beside, file_of
from vbench.catalogue import Broken, Catalogue, Component, Kind
from vbench.discovery import entry_points, version
from vbench.grid import parameter_of
from vbench.listing import known_catalogue

__all__ = ["PROVIDED", "Registered", "Registry", "load_all", "load_registry"]

PROVIDED: Final[Mapping[Kind, frozenset[str]]] = {
    "dataset": frozenset({"folder"}),
    "encoder": frozenset({"x", "n", "mean", "data"}),
    "decoder": frozenset({"x", "n", "mean", "data", "z"}),
    "prior": frozenset({"x", "n", "mean", "data", "z"}),
    "estimator": frozenset({"x", "n", "mean", "data", "z"}),
    "executor": frozenset({"limits", "workers"}),
}
_HOOKS: Final[Mapping[str, Kind]] = {
    "vbench_datasets": "dataset",
    "vbench_encoders": "encoder",
    "vbench_decoders": "decoder",
    "vbench_priors": "prior",
    "vbench_estimators": "estimator",
    "vbench_executors": "executor",
}
_OWN: Final = {"builtin": "vbench.builtin.plugin", "execute": "vbench.execute.plugin"}  # by name, as strangers' are
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")


@dataclass(frozen=True)
class Registered:
    """A factory and its description."""

    component: Component
    factory: Callable[..., Any]

    @property
    def provided(self) -> frozenset[str]:
        """What of the task this factory asks for by name."""
        return PROVIDED[self.component.kind] & set(inspect.signature(self.factory).parameters)


class Registry:
    """Everything registered. Loading never raises for a broken plugin; see ``broken`` and ``clashes``."""

    def __init__(self) -> None:
        self.components: dict[Kind, dict[str, Registered]] = {kind: {} for kind in PROVIDED}
        self.broken: list[Broken] = []
        self.clashes: list[str] = []
        self._manager = pluggy.PluginManager("vbench")
        self._manager.add_hookspecs(hookspecs)

    def add(self, plugin: object, distribution: str, version: str, entry_point: str) -> None:
        """Register one plugin object; whatever is wrong with it ends in ``broken``."""
        try:
            _agree(plugin)
            self._manager.register(plugin, name=f"{distribution}:{entry_point}")
            try:
                self._manager.check_pending()
                found = self._collect(plugin, distribution, version)
                if file_of(distribution):
                    self._refuse(found)
            except BaseException:
                self._manager.unregister(plugin)
                raise
        except (Exception, SystemExit) as error:
            self.broken.append(Broken(distribution, version, entry_point, reason(error)))
            return
        for item in found:
            self._claim(item)

    def load(self, point: metadata.EntryPoint) -> None:
        """Import an entry point's plugin and register it."""
        name = point.dist.name if point.dist else point.value
        release = point.dist.version if point.dist else ""
        try:
            plugin = point.load()
        except (Exception, SystemExit) as error:
            self.broken.append(Broken(name, release, point.name, reason(error)))
        else:
            self.add(plugin, name, release, point.name)

    def _collect(self, plugin: object, distribution: str, version: str) -> list[Registered]:
        found = []
        for hook, kind in _HOOKS.items():
            implementations = getattr(self._manager.hook, hook).get_hookimpls()
            for implementation in (i for i in implementations if i.plugin is plugin):
                factories = implementation.function()
                if not isinstance(factories, Mapping):
                    raise TypeError(
                        f"{hook} returned {type(factories).__name__}, expected a mapping of name to factory"
                    )
                found += [
                    Registered(describe(kind, name, factory, distribution, version), factory)
                    for name, factory in factories.items()
                ]
        return found

    def _refuse(self, found: list[Registered]) -> None:
        """What a plugin file may not do: register nothing, or a name that is taken."""
        if not found:
            raise ValueError("it registers nothing: expected a hook such as vbench_estimators, marked @hookimpl")
        for component in (item.component for item in found):
            if owner := self.components[component.kind].get(component.name):
                taken = f"{component.kind} {component.name!r} is registered by {owner.component.distribution}"
                raise ValueError(f"{taken} already: choose another name")

    def _claim(self, item: Registered) -> None:
        component = item.component
        owner = self.components[component.kind].setdefault(component.name, item)
        if owner is not item:
            self.clashes.append(
                f"{component.kind} {component.name!r} is registered by both {owner.component.distribution} "
                f"({owner.component.module}) and {component.distribution} ({component.module}): uninstall one of them"
            )

    def catalogue(self) -> Catalogue:
        """The same without the objects."""
        components = {
            kind: {name: item.component for name, item in items.items()} for kind, items in self.components.items()
        }
        return Catalogue(components, tuple(self.broken), tuple(self.clashes))

    def get(self, kind: Kind, name: str) -> Registered:
        """The registered component.

        Raises:
            KeyError: nothing of that kind has that name.
        """
        return self.components[kind][name]


def _agree(plugin: object) -> None:
    """See that a plugin was written for a contract that is kept here, if it says for which.

    Raises:
        ValueError: it was not.
    """
    written = getattr(plugin, "vbench_contract", hookspecs.CONTRACT)
    if type(written) is not int:
        raise ValueError(f"vbench_contract is {written!r}, expected a whole number such as {hookspecs.CONTRACT}")
    kept = str(hookspecs.CONTRACT)
    if hookspecs.OLDEST < hookspecs.CONTRACT:
        kept = f"{hookspecs.OLDEST} to {kept}"
    if not hookspecs.OLDEST <= written <= hookspecs.CONTRACT:
        older = "vbench" if written > hookspecs.CONTRACT else "the plugin"
        raise ValueError(f"written for contract {written}, vbench {version()} keeps {kept}: upgrade {older}")


def reason(error: BaseException) -> str:
    """One line: what went wrong and in which line of which file."""
    frames = () if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)  # it says where
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}{where}"


def describe(kind: Kind, name: str, factory: Any, distribution: str, version: str) -> Component:
    """What a factory says of itself: its documentation, and its parameters with types, limits and help.

    Raises:
        TypeError, ValueError: the name or the signature cannot be used.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r} must be lower-case letters, digits, '.', '_' and '-'")
    if not callable(factory):
        raise TypeError(f"{kind} {name!r} is {type(factory).__name__}, expected a factory (a function or class)")
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    parameters = []
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.name in PROVIDED[kind]:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"{kind} {name!r}: parameter {parameter} must be an ordinary named one")
        required = parameter.default is parameter.empty
        default = None if required else parameter.default
        annotation = hints.get(parameter.name, Any if default is None else type(default))
        parameters.append(parameter_of(parameter.name, annotation, default, required))
    doc = inspect.cleandoc(factory.__doc__ or "")
    source = re.search(r"^Source:\s*(.+?)(?:\n\s*\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return Component(
        kind,
        name,
        distribution,
        version,
        summary=doc.partition("\n")[0],
        source=" ".join(source[1].split()) if source else "",
        module=f"{factory.__module__}:{getattr(factory, '__qualname__', name)}",
        doc=doc,
        parameters=tuple(parameters),
        extra=str(getattr(factory, "extra", "")),
    )


def load_registry(distribution: str | None = None) -> Registry:
    """Built-ins, every installed plugin and the plugin files of the grid at hand, loaded once.

    Args:
        distribution: built-ins and this one alone: a job need not wait for plugins that it has no use for.
    """
    apart = distribution is not None and not file_of(distribution)  # from the grid's files
    return _loaded(() if apart else beside().plugins, distribution)


@functools.lru_cache(maxsize=16)
def _loaded(files: tuple[PluginFile, ...], distribution: str | None) -> Registry:
    if distribution is None:
        deadly = [item for item in known_catalogue().broken if item.deadly]
        names = {(item.distribution, item.entry_point) for item in deadly}
        points = entry_points()
        registry = load_all({p.value for p in points if (p.dist.name if p.dist else p.value, p.name) in names})
        registry.broken += deadly
        return registry
    registry = _own()
    for point in entry_points() if distribution != "vbench" else ():
        if point.dist and point.dist.name == distribution:
            registry.load(point)
    return registry


def load_all(
    left_out: Container[str], before: Callable[[metadata.EntryPoint], object] = lambda point: None
) -> Registry:
    """Built-ins and every plugin, into a registry of its own.

    Args:
        left_out: values of entry points that are passed over.
        before: called before each one is imported.
    """
    registry = _own()
    for point in entry_points():
        if point.value not in left_out:
            before(point)
            registry.load(point)
    return registry


def _own() -> Registry:
    registry = Registry()
    for name, module in _OWN.items():
        registry.add(importlib.import_module(module), "vbench", version(), name)
    return registry
