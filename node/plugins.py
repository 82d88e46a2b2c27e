"""Entry points to objects, lazily: what a name in the configuration stands for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from ai.settings import ModelSettings
from node.errors import ConfigError
from node.problems import nearest

if TYPE_CHECKING:
    from ai.model import Explainer, Model
    from dicom_io.encode.objects import Encoder

EXPLAINERS = "pellucid.explainers"
ENCODERS = "pellucid.encoders"
MODELS = "pellucid.models"
MEASURES = "pellucid.measures"


#: Kinds of parameters that are looked at, in words.
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class PluginError(ConfigError):
    """A name has no plug-in, or its plug-in cannot be used as the configuration asks."""


def names(group: str) -> tuple[str, ...]:
    """Return the sorted names that ``group`` offers; imports none of them."""
    return tuple(sorted(metadata.entry_points(group=group).names))


def load_explainer(name: str, parameters: Mapping[str, object]) -> "Explainer":
    """Return the explainer ``name`` with these parameters.

    Raises
    ------
    PluginError
        There is no such explainer, or it has no such parameter, or refuses its value.
    """
    kind = explainer_class(name)
    known = {field.name: field for field in fields(kind) if field.init}
    for parameter in parameters:
        if parameter not in known:
            hint = nearest(parameter, known)
            raise PluginError(f"explainer {name!r} has no parameter {parameter!r}{hint}")
    fitting = {key: _fitting(name, known[key], value) for key, value in parameters.items()}
    try:
        return cast("Explainer", kind(**fitting))
    except (TypeError, ValueError) as error:
        wanted = json.dumps(dict(parameters))
        raise PluginError(f"explainer {name!r} refuses {wanted}: {error}") from error


def explainer_class(name: str) -> type[Any]:
    """Return the dataclass of the explainer ``name``; its fields are the method's parameters.

    Raises
    ------
    PluginError
        There is no such explainer, or it does not load.
    """
    kind = _load(EXPLAINERS, name)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise PluginError(f"explainer {name!r} is no dataclass: {kind!r}")
    return kind


def default_of(field: "Field[Any]") -> object:
    """Return what a parameter is if nobody sets it; ``MISSING`` if it must be set."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def load_encoder(name: str) -> "Encoder":
    """Return the encoder ``name``.

    Raises
    ------
    PluginError
        There is no such encoder.
    """
    return cast("Encoder", _load(ENCODERS, name))


def load_model(settings: ModelSettings) -> "Model":
    """Return the model that ``settings`` describe, loaded by the loader of its kind.

    Raises
    ------
    PluginError
        There is no such kind of model.
    ModelUnavailableError
        The loader cannot load it: a file is missing or changed, or not trusted.
    """
    loader = cast("Callable[[ModelSettings], Model]", _load(MODELS, settings.kind))
    return loader(settings)


def provider(group: str, name: str) -> str:
    """Return ``distribution version`` of the package that offers a plug-in; imports nothing.

    Raises
    ------
    PluginError
        There is no such plug-in.
    """
    distribution = _entry_point(group, name).dist
    return f"{distribution.name} {distribution.version}" if distribution else ""


def _fitting(name: str, field: "Field[Any]", value: object) -> object:
    """Return a value as a parameter like its default takes it: one alone may stand for a list.

    Raises
    ------
    PluginError
        The value is of another kind than the default.
    """
    default = default_of(field)
    given = tuple(value) if isinstance(value, list) else value
    if isinstance(default, tuple):
        return given if isinstance(given, tuple) else (given,)
    for kind, words in _KINDS.items():
        if type(default) is kind and not _is_a(kind, given):
            raise PluginError(
                f"explainer {name!r}: {field.name} = {json.dumps(value)} is not accepted; "
                f"expected {words}, as {json.dumps(default)}"
            )
    return given


def _is_a(kind: type, value: object) -> bool:
    """Whether TOML's value may stand where ``kind`` is wanted: a truth is no number."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _load(group: str, name: str) -> Any:
    entry = _entry_point(group, name)
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{group} {name!r} ({entry.value}) does not load: {error}") from error


def _entry_point(group: str, name: str) -> metadata.EntryPoint:
    found = metadata.entry_points(group=group, name=name)
    if not found:
        word = group.removeprefix("pellucid.").removesuffix("s")
        raise PluginError(f"there is no {word} {name!r}{nearest(name, names(group))}")
    if len({entry.value for entry in found}) > 1:
        values = ", ".join(sorted(entry.value for entry in found))
        raise PluginError(f"{group} {name!r} is offered more than once: {values}")
    return next(iter(found))
