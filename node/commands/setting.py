"""Which configuration a command works with, and the peers and models that its words name."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ai.settings import ModelSettings
from node.commands.output import MisuseError
from node.config import Config, Peer, embedded_config
from node.config_folder import load_config
from node.config_node import default_data_folder
from node.config_types import ae_title
from node.problems import nearest

_ADDRESS = re.compile(r"(?P<title>[^@\\]{1,16})@(?P<host>[^@:\s]+):(?P<port>\d{1,5})")


def config_folder(asked: Path | None) -> Path | None:
    """Return the folder that is asked for, else ``config`` here if it is one, else None."""
    if asked is not None:
        return asked
    here = Path("config")
    return here if (here / "node.toml").is_file() else None


def configuration(asked: Path | None) -> Config:
    """Return the configuration in force: a folder's, or the embedded one.

    Raises
    ------
    InvalidConfigError
        With every mistake in the folder.
    """
    folder = config_folder(asked)
    return embedded_config(default_data_folder()) if folder is None else load_config(folder)


def named_model(name: str, models: Mapping[str, ModelSettings]) -> ModelSettings:
    """Return the settings of a configured model.

    Raises
    ------
    MisuseError
        There is no such model; the message names the nearest.
    """
    if name not in models:
        raise MisuseError(f"there is no model {name!r}{nearest(name, models)}")
    return models[name]


def named_peer(name: str, peers: Mapping[str, Peer]) -> Peer:
    """Return a configured peer, or the one that ``AETITLE@host:port`` describes.

    Raises
    ------
    MisuseError
        It is neither.
    """
    if name in peers:
        return peers[name]
    match = _ADDRESS.fullmatch(name)
    if match is not None and 0 < int(match["port"]) <= 65535:
        return Peer(name=name, ae_title=match["title"], host=match["host"], port=int(match["port"]))
    hint = nearest(name, peers) or "; none is configured"
    raise MisuseError(f"there is no peer {name!r}{hint} (or write AETITLE@host:port)")


def calling_title(asked: str | None, config: Config) -> str:
    """Return the AE title to call under: the one asked for, or the node's own.

    Raises
    ------
    MisuseError
        It is no AE title (PS3.5 6.2).
    """
    if asked is None:
        return config.node.ae_title
    try:
        return ae_title(asked)
    except ValueError as error:
        raise MisuseError(f"--as: {error}; expected 1 to 16 characters of ASCII") from error


def existing_folder(path: Path) -> Path:
    """Return ``path`` if it is a folder that can be read.

    Raises
    ------
    MisuseError
        It is missing, a file, or closed to this user.
    """
    if not path.exists():
        raise MisuseError(f"there is no folder {str(path)!r}")
    if not path.is_dir():
        raise MisuseError(f"{str(path)!r} is a file; give the folder that holds the study")
    if not os.access(path, os.R_OK | os.X_OK):
        raise MisuseError(f"folder {str(path)!r} cannot be read: permission denied")
    return path
