"""A trusted bundle's own Python modules, imported from verified bytes and never from disk."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import PurePosixPath
from types import ModuleType

from ai.errors import ModelUnavailableError


@contextmanager
def importable(sources: Mapping[str, bytes]) -> Iterator[None]:
    """Make a bundle's modules importable inside the block, and by nobody after it.

    Bundles like to call their package ``scripts``: two of them in one process would otherwise
    get each other's code. What was imported inside the block lives on in the objects that use it.

    Parameters
    ----------
    sources
        POSIX path within the bundle of every ``*.py`` file to its bytes.

    Raises
    ------
    ModelUnavailableError
        A module has the name of one that is already there: it would hide it, or be hidden.
    """
    finder = _BundleFinder(sources)
    taken = sorted(finder.roots & (sys.modules.keys() | sys.stdlib_module_names))
    if taken:
        raise ModelUnavailableError(
            f"the bundle has Python modules of its own named {', '.join(taken)}, "
            f"as the running program has: rename them in the bundle"
        )
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] in finder.roots]:
            del sys.modules[name]


class _BundleFinder(MetaPathFinder, Loader):
    """Finds and runs modules that are given as bytes; a folder without code is a package too."""

    def __init__(self, sources: Mapping[str, bytes]) -> None:
        self._modules: dict[str, bytes] = {}
        self._packages: set[str] = set()
        for path, source in sources.items():
            parts = PurePosixPath(path).with_suffix("").parts
            folders = [".".join(parts[:depth]) for depth in range(1, len(parts))]
            self._packages.update(folders)
            is_package = parts[-1] == "__init__" and len(parts) > 1
            self._modules[folders[-1] if is_package else ".".join(parts)] = source
        self.roots = {name.split(".")[0] for name in self._modules.keys() | self._packages}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return the spec of one of the bundle's modules; None for every other name."""
        if fullname not in self._modules and fullname not in self._packages:
            return None
        is_package = fullname in self._packages
        return importlib.util.spec_from_loader(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's verified source."""
        source = self._modules.get(module.__name__, b"")
        exec(compile(source, f"<bundle {module.__name__}>", "exec"), module.__dict__)  # noqa: S102
