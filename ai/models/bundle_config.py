"""The configuration of a MONAI bundle, read as values and made safe to instantiate."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from monai.bundle.config_parser import ConfigParser
from monai.bundle.utils import merge_kv

from ai.errors import ModelUnavailableError

#: Reads one file of the bundle by its POSIX path within it.
Read = Callable[[str], bytes]

_SUFFIXES = (".json", ".yaml", ".yml")
#: Read in this order, of each group the first that exists; later files override earlier ones.
_CONFIGS = (("common",), ("inference", "infer"))
#: Our tensor takes their place; the newest MONAI no longer knows some of them.
_LOADERS = (
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst",
)  # fmt: skip
_SAVERS = ("SaveImage",)
_DICTIONARY_ENDINGS = ("d", "D", "Dict", "")
_PRETRAINED = re.compile(r"\bpretrained\s*=\s*True\b")
_NETWORK_IDS = ("network_def", "network")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsPlace:
    """Where a bundle keeps the weights of its network."""

    #: POSIX path within the bundle.
    name: str
    #: Name of the network among the objects of the checkpoint.
    key: str


def read_metadata(names: Sequence[str], read: Read) -> dict[str, Any]:
    """Return ``configs/metadata.json`` of a bundle.

    Raises
    ------
    ModelUnavailableError
        There is none, or it is not a JSON object.
    """
    if "configs/metadata.json" not in names:
        raise ModelUnavailableError("configs/metadata.json is missing: not a MONAI bundle")
    return _parsed("configs/metadata.json", read("configs/metadata.json"))


def read_config(names: Sequence[str], read: Read) -> dict[str, Any]:
    """Return the inference configuration, merged where it is split over two files.

    Raises
    ------
    ModelUnavailableError
        There is none, there are two of one name, or one cannot be read.
    """
    parser = ConfigParser({})
    found = [_config_file(stems, names) for stems in _CONFIGS]
    if found[-1] is None:
        raise ModelUnavailableError("configs/inference.json (or .yaml) is missing")
    for name in filter(None, found):
        for key, value in _parsed(name, read(name)).items():
            merge_kv(parser, key, value)
    config: dict[str, Any] = parser.get()
    return config


def safe_parser(config: dict[str, Any], *, folder: Path, device: str) -> ConfigParser:
    """Return MONAI's parser over the configuration, made ours; nothing is evaluated yet.

    Loading, channel-first and saving steps are disabled, nothing is downloaded as pretrained,
    ``bundle_root`` and ``device`` are the caller's.

    Raises
    ------
    ModelUnavailableError
        The configuration takes in another file by a macro, which no hash would cover.
    """
    prepared = _made_ours(config)
    prepared |= {"bundle_root": str(folder), "device": f"$torch.device({device!r})"}
    return ConfigParser(prepared)


def network_id(config: Mapping[str, Any]) -> str:
    """Return the id of the network: ``network_def``, else ``network``."""
    for name in _NETWORK_IDS:
        if name in config:
            return name
    raise ModelUnavailableError("the bundle's configuration has neither network_def nor network")


def image_key(config: Mapping[str, Any]) -> str:
    """Return the key under which the preprocessing expects the image.

    Raises
    ------
    ModelUnavailableError
        The bundle loads several images, or works on arrays instead of dictionaries.
    """
    keys: list[str] = []
    for _, component in components(config):
        target = str(component["_target_"]).rsplit(".", 1)[-1]
        if target == "LoadImage":
            raise ModelUnavailableError("the bundle's preprocessing works without dictionaries")
        if _is_one_of(target, ("LoadImage",)):
            named = component.get("keys", "image")
            keys += [named] if isinstance(named, str) else list(named)
    images = sorted(set(keys) - {"label", "labels", "mask", "seg", "pred"}) or ["image"]
    if "image" in images or len(images) == 1:
        return "image" if "image" in images else images[0]
    raise ModelUnavailableError(f"the bundle takes several images ({', '.join(images)}), not one")


def weights_place(parser: ConfigParser, folder: Path) -> WeightsPlace:
    """Return where the checkpoint loader takes the weights from; else ``models/model.pt``.

    Raises
    ------
    ModelUnavailableError
        Several loaders disagree, or one reads outside the bundle.
    """
    places = {
        (_inside(parser.get_parsed_content(f"{path}::load_path"), folder), _network_key(component))
        for path, component in components(parser.get())
        if _target(component) == "CheckpointLoader" and "load_path" in component
    }
    if len(places) > 1:
        raise ModelUnavailableError(f"the bundle loads several checkpoints: {sorted(places)}")
    name, key = next(iter(places), ("models/model.pt", "model"))
    return WeightsPlace(name=name, key=key)


def components(config: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (id, component) of everything in a configuration that has a ``_target_``."""
    if isinstance(config, dict) and "_target_" in config:
        yield path, config
    children: Any = ()
    if isinstance(config, dict):
        children = config.items()
    elif isinstance(config, list):
        children = enumerate(config)
    for key, value in children:
        yield from components(value, f"{path}::{key}" if path else str(key))


def _parsed(name: str, content: bytes) -> dict[str, Any]:
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise ModelUnavailableError(f"{name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ModelUnavailableError(f"{name} holds a {type(value).__name__}, expected an object")
    return value


def _config_file(stems: Sequence[str], names: Sequence[str]) -> str | None:
    for stem in stems:
        found = [f"configs/{stem}{suffix}" for suffix in _SUFFIXES]
        found = [name for name in found if name in names]
        if len(found) > 1:
            raise ModelUnavailableError(f"{' and '.join(found)}: which one is meant?")
        if found:
            return found[0]
    return None


def _made_ours(config: Any) -> Any:
    if isinstance(config, list):
        return [_made_ours(each) for each in config]
    if isinstance(config, str):
        return _safe_text(config)
    if not isinstance(config, dict):
        return config
    changed = {key: _made_ours(value) for key, value in config.items()}
    if changed.get("pretrained") is True:
        changed["pretrained"] = False
    if "_target_" in changed and _is_one_of(_target(changed), (*_LOADERS, *_SAVERS)):
        changed = {"_target_": changed["_target_"], "_disabled_": True}
    return changed


def _safe_text(text: str) -> str:
    if text.startswith("%") and ConfigParser.split_path_id(text[1:])[0]:
        raise ModelUnavailableError(f"the bundle's configuration takes in another file: {text}")
    return _PRETRAINED.sub("pretrained=False", text) if text.startswith("$") else text


def _target(component: Mapping[str, Any]) -> str:
    return str(component["_target_"]).rsplit(".", 1)[-1]


def _is_one_of(target: str, names: Sequence[str]) -> bool:
    return any(target == name + ending for name in names for ending in _DICTIONARY_ENDINGS)


def _inside(load_path: Any, folder: Path) -> str:
    path = Path(str(load_path))
    absolute = path if path.is_absolute() else folder / path
    try:
        return absolute.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError as error:
        raise ModelUnavailableError(
            f"the bundle loads its weights from {path}, outside of {folder}"
        ) from error


def _network_key(component: Mapping[str, Any]) -> str:
    """Return the checkpoint's name for the network, from the loader's ``load_dict``."""
    objects = component.get("load_dict", {})
    if isinstance(objects, dict):
        for key, reference in objects.items():
            if str(reference).lstrip("$@") in _NETWORK_IDS or len(objects) == 1:
                return str(key)
    return "model"
