"""What every explainer promises, over all entry points: a new one is tested by existing."""

import dataclasses
import importlib.metadata
import inspect
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from ai.capture import fingerprint
from ai.errors import (
    BudgetError,
    ExplanationCancelledError,
    ExplanationError,
    InputTensorError,
    OpaqueNetworkError,
    TargetError,
    TrainingModeError,
)
from ai.model import Attribution, Budget, Needs, Settings
from ai.targets import ClassLogit, SegmentMass
from tests.build_networks import (
    Failing,
    FailingOnTheWayBack,
    classifier,
    evident,
    image,
    meshnet,
    token_segmenter,
    transformer,
)

EXPLAINERS = {
    entry.name: entry.load()
    for entry in importlib.metadata.entry_points(group="pellucid.explainers")
}
#: What a compiled graph still gives: its output, and a gradient at its input.
SEEN_FROM_OUTSIDE = {Needs.OUTPUT, Needs.GRADIENT}
#: A rougher but quicker setting where the default is meant for real images.
QUICK = {
    "deeplift_shap": {"references": 3},
    "expected_gradients": {"most_samples": 64},
    "integrated_gradients": {"most_steps": 32},
    "kernel_shap": {"players": 12, "samples": 64},
    "lime": {"players": 12, "samples": 32},
    "occlusion": {"cells": 3, "refine": (2,)},
    "rise": {"cells": 3, "masks": 64},
    "smoothgrad": {"samples": 8},
}

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


@pytest.fixture(params=sorted(EXPLAINERS))
def name(request):
    return request.param


def quick(name):
    return EXPLAINERS[name](**QUICK.get(name, {}))


def subject(name, shape=(1, 1, 48, 48)):
    """Return a classifier for inputs of a shape that has what the method needs."""
    if EXPLAINERS[name].needs is Needs.ATTENTION:
        return transformer(shape[2:], channels=shape[1])
    if EXPLAINERS[name].needs is Needs.EVIDENCE:
        return evident(axes=len(shape) - 2, channels=shape[1])
    return classifier(axes=len(shape) - 2, channels=shape[1])


def test_instances_need_no_arguments_and_carry_the_name_of_their_entry_point(name):
    explainer = EXPLAINERS[name]()

    assert explainer.name == name
    assert dataclasses.is_dataclass(explainer)
    with pytest.raises(dataclasses.FrozenInstanceError):
        explainer.name = "other"


def test_signatures_are_those_of_the_protocol(name):
    explain = inspect.signature(EXPLAINERS[name].explain)
    estimate = inspect.signature(EXPLAINERS[name].estimate_cost)

    assert list(explain.parameters) == ["self", "network", "x", "target", "settings"]
    assert explain.parameters["settings"].default == Settings()
    assert list(estimate.parameters) == ["self", "network", "x"]


@pytest.mark.parametrize("shape", [(2, 3, 48, 40), (1, 1, 32, 24, 40)], ids=["2D", "3D"])
def test_values_are_float32_on_the_grid_of_the_input(name, shape):
    network, x = subject(name, shape), image(*shape)

    attribution = quick(name).explain(network, x, ClassLogit(1))

    assert isinstance(attribution, Attribution)
    assert attribution.values.dtype == torch.float32
    assert attribution.values.shape[0] == shape[0]
    assert attribution.values.shape[1] in {1, shape[1]}
    assert attribution.values.shape[2:] == x.shape[2:]
    assert torch.isfinite(attribution.values).all()
    assert not attribution.values.requires_grad
    with torch.no_grad():
        assert torch.allclose(attribution.f_x, network(x)[:, 1], atol=1e-6)
    assert attribution.method == name
    assert attribution.cost.forwards >= 1


def test_segment_mass_is_explained_on_a_network_without_strides(name):
    if EXPLAINERS[name].needs is Needs.EVIDENCE:
        pytest.skip("a head that sums up evidence decides on the whole image, and outlines nothing")
    attention = EXPLAINERS[name].needs is Needs.ATTENTION
    network = token_segmenter((12, 12, 12)) if attention else meshnet()
    x = image(1, 1, 12, 12, 12)
    logits = network(x)[0, 2]
    mask = logits > logits.median()

    attribution = quick(name).explain(network, x, SegmentMass(2, mask))

    assert attribution.values.shape == x.shape
    assert attribution.values.abs().sum() > 0


def test_the_estimate_is_not_exceeded(name):
    network, x = subject(name), image(1, 1, 48, 48)
    explainer = quick(name)

    estimate = explainer.estimate_cost(network, x)
    spent = explainer.explain(network, x, ClassLogit(0)).cost

    assert spent.forwards <= estimate.forwards
    assert spent.backwards <= estimate.backwards


def test_the_same_question_has_the_same_answer(name):
    network, x = subject(name), image(1, 1, 48, 48)

    first = quick(name).explain(network, x, ClassLogit(1)).values
    again = quick(name).explain(network, x, ClassLogit(1)).values

    assert torch.equal(first, again)


def test_each_entry_of_a_batch_is_explained_by_itself(name):
    network, x = subject(name), image(3, 1, 48, 48)

    together = quick(name).explain(network, x, ClassLogit(1)).values
    alone = quick(name).explain(network, x[1:2], ClassLogit(1)).values

    assert (together[1:2] - alone).abs().max() <= 1e-5 * alone.abs().max()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_in_whatever_mode_the_caller_is(name, mode):
    network, x = subject(name), image(1, 1, 48, 48)
    expected = quick(name).explain(network, x, ClassLogit(1)).values

    with mode():
        values = quick(name).explain(network, x.clone(), ClassLogit(1)).values
        grads_on = torch.is_grad_enabled()

    assert torch.equal(values, expected)
    assert grads_on == (mode is torch.enable_grad)


def test_it_works_on_weights_made_in_inference_mode(name):
    x = image(1, 1, 48, 48)
    expected = quick(name).explain(subject(name), x, ClassLogit(1)).values
    with torch.inference_mode():
        network = subject(name)

    values = quick(name).explain(network, x, ClassLogit(1)).values

    assert torch.equal(values, expected)


def test_no_trace_is_left_on_network_input_or_mode(name):
    network, x = subject(name), image(1, 1, 48, 48)
    handle = network[0].register_forward_hook(lambda *_: None)
    before, pixels = fingerprint(network), x.clone()

    quick(name).explain(network, x, ClassLogit(1))

    assert fingerprint(network) == before
    assert torch.equal(x, pixels)
    assert not x.requires_grad
    assert x.grad is None
    assert torch.is_grad_enabled()
    handle.remove()


@pytest.mark.parametrize("share", [0, 0.1, 0.4, 0.75, 0.9])
@pytest.mark.parametrize("failure", [Failing, FailingOnTheWayBack])
def test_no_trace_is_left_when_the_network_fails(name, share, failure):
    network, x = subject(name), image(1, 1, 48, 48)
    depth = round(share * len(network))
    broken = nn.Sequential(*list(network)[:depth], failure(), *list(network)[depth:]).eval()
    before, pixels = fingerprint(broken), x.clone()

    try:
        quick(name).explain(broken, x, ClassLogit(1))
    except (FloatingPointError, ExplanationError) as error:
        assert "injected" in str(error)  # noqa: PT017, black boxes never meet a backward failure
    else:
        assert failure is FailingOnTheWayBack

    assert fingerprint(broken) == before
    assert torch.equal(x, pixels)
    assert not x.requires_grad
    assert torch.is_grad_enabled()


def test_no_trace_is_left_when_the_target_fails(name):
    network, x = subject(name), image(1, 1, 48, 48)
    before = fingerprint(network)

    with pytest.raises(TargetError, match="channel 7 is out of range: the network has 3"):
        quick(name).explain(network, x, ClassLogit(7))

    assert fingerprint(network) == before


def test_eight_threads_answer_as_one(name):
    network = subject(name)
    images = [image(1, 1, 48, 48, seed=seed) for seed in range(8)]
    serial = [quick(name).explain(network, x, ClassLogit(1)).values for x in images]

    with ThreadPoolExecutor(max_workers=8) as threads:
        parallel = list(
            threads.map(lambda x: quick(name).explain(network, x, ClassLogit(1)).values, images)
        )

    for alone, beside in zip(serial, parallel, strict=True):
        assert torch.equal(alone, beside)


def test_a_module_in_training_mode_is_refused_by_its_name(name):
    network = subject(name)
    network[4].train()

    with pytest.raises(
        TrainingModeError, match=r"4 \((BatchNorm2d|LayerNorm)\) is in training mode"
    ):
        quick(name).explain(network, image(1, 1, 48, 48), ClassLogit(1))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (image(1, 1, 48, 48).fill_(float("nan")), "2304 of 2304 input values are NaN"),
        (image(48, 48), r"expected a float tensor \[B, C, \*S\]"),
        (image(1, 1, 48, 48).int(), "torch.int32"),
    ],
    ids=["NaN", "rank", "type"],
)
def test_an_input_that_is_no_image_is_refused(name, x, message):
    with pytest.raises(InputTensorError, match=message):
        quick(name).explain(subject(name), x, ClassLogit(1))


def test_a_budget_that_reaches_for_nothing_is_refused(name):
    settings = Settings(budget=Budget(forwards=0))

    with pytest.raises(BudgetError, match="the budget has 0"):
        quick(name).explain(subject(name), image(1, 1, 48, 48), ClassLogit(1), settings)


def test_a_cancelled_explanation_says_so(name):
    settings = Settings(budget=Budget(cancelled=lambda: True))

    with pytest.raises(ExplanationCancelledError, match="cancelled"):
        quick(name).explain(subject(name), image(1, 1, 48, 48), ClassLogit(1), settings)


def test_progress_is_reported_to_its_end(name):
    heard = []
    settings = Settings(budget=Budget(report=lambda done, total: heard.append((done, total))))

    quick(name).explain(subject(name), image(1, 1, 48, 48), ClassLogit(1), settings)

    assert heard[-1][0] == heard[-1][1]
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_torchscript_is_explained_from_outside_and_else_refused(name):
    x = image(1, 1, 48, 48)
    network = torch.jit.trace(classifier(), x)

    if EXPLAINERS[name].needs not in SEEN_FROM_OUTSIDE:
        with pytest.raises(OpaqueNetworkError, match="use occlusion"):
            quick(name).explain(network, x, ClassLogit(1))
    else:
        values = quick(name).explain(network, x, ClassLogit(1)).values
        expected = quick(name).explain(classifier(), x, ClassLogit(1)).values
        assert torch.allclose(values, expected, atol=1e-5)
