"""Every explainer on every network of the matrix: a map that may stand, or a reason why not."""

import copy
import re
from functools import cache
from pathlib import Path

import pytest
import torch

from ai.capture import fingerprint
from ai.errors import ExplanationError
from ai.model import Needs
from ai.targets import logits_of
from benchmarks.cells import Outcome, cell_of, methods, quick, refusal_of
from benchmarks.networks import MATRIX, Subject
from tests.build_networks import FailingBackward

PAGE = Path(__file__).parents[2] / "docs" / "explainers-matrix.md"
METHODS = sorted(methods())
#: Its smallest volume takes a second a pass, a plane goes through the same functions. The exact
#: methods are held to the volume as well.
PLANE = {"SwinUNETR": (64, 64)}
EXACT = ["lrp", "deeplift"]


def extents_of(name) -> tuple[int, ...]:
    return PLANE.get(name, MATRIX[name].small)


@cache
def subject_of(name, extents=None) -> Subject:
    return MATRIX[name].subject(extents or extents_of(name))


@cache
def untouched(name) -> str:
    return fingerprint(subject_of(name).network)


@cache
def modules_that_run(name) -> list[str]:
    """Return the names of the modules with weights of their own, in the order in which they run.

    Those without may be exchanged on the private copy, as EfficientNet's activation is.
    """
    network, ran = copy.deepcopy(subject_of(name).network), []
    for each, module in network.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, each=each: ran.append(each))
    with torch.no_grad():
        network(subject_of(name).x)
    return ran


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Passes this small are quickest on one; two wait for each other where others work too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=MATRIX, scope="module")
def network(request):
    return request.param


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


def test_a_network_says_something_and_not_the_same_of_every_image(network):
    subject = subject_of(network)
    images = [MATRIX[network].image(extents_of(network), seed=seed) for seed in range(4)]

    with torch.no_grad():
        said = [subject.target(logits_of(subject.network(x)), x) for x in images]

    assert abs(said[0]) > 0.1
    assert torch.cat(said).std() > 0.05 * abs(said[0])


def test_a_map_may_stand_or_the_graph_says_why_not(network, method):
    subject, pixels = subject_of(network), subject_of(network).x.clone()

    cell = cell_of(subject, method)

    expected = Outcome.NOT_APPLICABLE if refusal_of(method, network) else Outcome.OK
    assert (cell.outcome, cell.why) == (expected, cell.why)
    assert fingerprint(subject.network) == untouched(network)
    assert torch.equal(subject.x, pixels)
    assert not subject.x.requires_grad


def test_no_trace_is_left_when_a_module_raises_on_the_way_there_or_back(network, method):
    subject, ran = subject_of(network), modules_that_run(network)
    # One of five depths for each method, all of them for each network.
    depth = METHODS.index(method) % 5 / 4
    places = [(ran[round(depth * (len(ran) - 1))], raising)]
    if methods()[method].needs is not Needs.OUTPUT:
        places.append((ran[-1], raising_on_the_way_back))

    for name, hook in places:
        handle = subject.network.get_submodule(name).register_forward_hook(hook)
        try:
            quick(method).explain(subject.network, subject.x, subject.target)
        except (FloatingPointError, ExplanationError):
            pass
        else:
            assert hook is raising_on_the_way_back
        finally:
            handle.remove()

    assert fingerprint(subject.network) == untouched(network)
    assert not subject.x.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", EXACT)
def test_an_exact_method_adds_up_in_a_volume_of_windows_too(method):
    subject = subject_of("SwinUNETR", MATRIX["SwinUNETR"].small)

    cell = cell_of(subject, method)

    assert (cell.outcome, cell.why) == (Outcome.OK, "")


def test_relevance_is_conserved_in_double_precision(network):
    subject = subject_of(network, MATRIX[network].small)
    # A copy of einops' layers is in training mode again.
    exact = copy.deepcopy(subject.network).double().eval()

    attribution = methods()["lrp"]().explain(exact, subject.x.double(), subject.target)

    assert attribution.residual.dtype == torch.float64
    assert float(attribution.residual) <= 1e-9


def test_the_page_says_of_every_cell_what_the_code_does():
    text = PAGE.read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]

    shown, networks = {}, []
    for row in rows:
        if not row[0]:
            networks = [each.split("<br>")[0] for each in row[1:]]
        elif row[0].strip("`") in methods() and len(row) == len(networks) + 1:
            shown |= {
                (each, row[0].strip("`")): cell
                for each, cell in zip(networks, row[1:], strict=True)
            }

    assert set(shown) == {(each, method) for each in MATRIX for method in METHODS}
    for (each, method), cell in shown.items():
        refusal = refusal_of(method, each)
        assert re.match(r"n/a [a-h]$" if refusal else r"ok$|≤ 1e[+-]\d\d( w)?$", cell), (
            each,
            method,
            cell,
        )


def raising(*_):
    raise FloatingPointError("injected")


def raising_on_the_way_back(_module, _inputs, output):
    """A ViT says its logits in a tuple, with what its blocks gave."""
    if isinstance(output, tuple):
        return (FailingBackward.apply(output[0]), *output[1:])
    return FailingBackward.apply(output)
