"""Looking into a network without leaving a trace on it.

Everything an explainer does to a network (freezing, hooks) it does to a private copy that shares
the weights' memory. So the network that others use at the same time is never touched, whatever
fails in between.
"""

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ai.errors import UnknownLayerError


def private_copy(network: nn.Module) -> nn.Module:
    """Return a frozen copy of the module tree on the same weights; costs no memory for them.

    Every module is copied, every parameter and buffer is a detached view of the original's, with
    ``requires_grad`` off, so that a gradient graph begins only where one is asked for. Weights
    that were made under ``torch.inference_mode`` are cloned, since autograd refuses them. Hooks of
    the original run on the copy as well. TorchScript is returned as it is: it cannot be copied
    piecewise, and methods that need to look inside refuse it.
    """
    with torch.inference_mode(mode=False):
        return _copied(network, {})


@contextmanager
def gradients_on() -> Iterator[None]:
    """Record gradients inside, whatever mode the caller is in; the caller's mode returns after."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield


@contextmanager
def gradients_off() -> Iterator[None]:
    """Record nothing inside, and make ordinary tensors even under ``torch.inference_mode``."""
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


def find_layers(network: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Return the modules of names as in ``network.named_modules()``.

    Raises
    ------
    UnknownLayerError
        If a name does not exist; the message suggests the nearest.
    """
    modules = dict(network.named_modules(remove_duplicate=False))
    for name in names:
        if name not in modules or not name:
            raise UnknownLayerError(_unknown_layer(name, modules))
    return {name: modules[name] for name in names}


def fingerprint(network: nn.Module) -> str:
    """Return a digest of all that an explainer must leave alone.

    Names, types, modes, hooks and gradients of every module and the bytes of every parameter and
    buffer: two equal fingerprints are one network.
    """
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        registries = (value for key, value in vars(module).items() if key.endswith("_hooks"))
        hooks = [sorted(registry) for registry in registries if registry]
        digest.update(f"{name}|{type(module).__qualname__}|{module.training}|{hooks}".encode())
    for name, parameter in network.named_parameters():
        digest.update(f"{name}|{parameter.requires_grad}|{parameter.grad is None}".encode())
        digest.update(_bytes(parameter))
    for name, buffer in network.named_buffers():
        digest.update(name.encode())
        digest.update(_bytes(buffer))
    return digest.hexdigest()


def _copied(module: nn.Module, copies: dict[int, nn.Module]) -> nn.Module:
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if id(module) in copies:
        return copies[id(module)]
    copy = type(module).__new__(type(module))
    copies[id(module)] = copy
    # torch keeps parameters, buffers, children and hooks in dictionaries of these names; the copy
    # gets its own, so that registering on it does not reach the original.
    state = {
        key: value.copy() if key.startswith("_") and isinstance(value, dict) else value
        for key, value in vars(module).items()
    }
    state["_parameters"] = {
        name: parameter if parameter is None else _frozen(parameter)
        for name, parameter in state["_parameters"].items()
    }
    state["_buffers"] = {
        name: buffer if buffer is None else _shared(buffer)
        for name, buffer in state["_buffers"].items()
    }
    state["_modules"] = {
        name: child if child is None else _copied(child, copies)
        for name, child in state["_modules"].items()
    }
    vars(copy).update(state)
    return copy


def _frozen(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(_shared(parameter), requires_grad=False)


def _shared(tensor: Tensor) -> Tensor:
    return tensor.detach().clone() if tensor.is_inference() else tensor.detach()


def _unknown_layer(name: str, modules: dict[str, nn.Module]) -> str:
    nearest = difflib.get_close_matches(name, [known for known in modules if known], n=3, cutoff=0)
    return f"the network has no layer {name!r}; nearest: {', '.join(nearest) or 'none'}"


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
