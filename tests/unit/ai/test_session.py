"""One forward pass that prediction, maps and features share."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from ai.capture import fingerprint
from ai.errors import (
    ExplanationCancelledError,
    InputTensorError,
    OpaqueNetworkError,
    TargetError,
    TrainingModeError,
    UndifferentiableError,
    UnknownLayerError,
    UnsuitableLayerError,
)
from ai.explainers.cam import CAM, EigenCAM, GradCAM, HiResCAM, LayerCAM, explain_all
from ai.model import Budget, Settings
from ai.session import FAMILY, ExplainSession
from ai.targets import ClassLogit, SegmentMass
from tests.build_networks import (
    FailingOnTheWayBack,
    classifier,
    image,
    meshnet,
    token_segmenter,
    transformer,
)


def counted(network):
    """Return a list that grows with each run of the network's first layer, by spatial extents."""
    runs = []
    first = next(module for name, module in network.named_modules() if name)
    first.register_forward_hook(lambda _m, inputs, _o: runs.append(tuple(inputs[0].shape[2:])))
    return runs


@pytest.mark.parametrize(
    ("network", "x"),
    [
        (classifier(), image(2, 1, 48, 40)),
        (classifier(axes=3), image(1, 1, 32, 24, 40)),
        (meshnet(), image(1, 1, 12, 12, 12)),
        (transformer(), image(1, 1, 48, 48)),
        (token_segmenter((16, 16, 16)), image(1, 1, 16, 16, 16)),
    ],
    ids=["2D", "3D", "without strides", "class token", "tokens"],
)
def test_the_output_is_the_prediction_bit_for_bit(network, x):
    session = ExplainSession(network, x)

    with torch.no_grad():
        assert torch.equal(session.output, network(x))
    assert not session.output.requires_grad


def test_all_maps_of_all_targets_are_those_of_each_explainer_alone():
    network, x = classifier(), image(2, 1, 64, 64)
    session = ExplainSession(network, x)

    for target in (ClassLogit(0), ClassLogit(2)):
        for variant, found in zip(FAMILY, session.cams(target), strict=True):
            alone = variant.explain(network, x, target)
            assert torch.allclose(found.values, alone.values, atol=1e-7)
            assert (found.method, found.layer) == (variant.name, alone.layer)
            assert torch.equal(found.f_x, alone.f_x)


def test_another_image_takes_one_forward_pass_and_no_search():
    network, x = classifier(), image(1, 1, 64, 64)
    runs = counted(network)
    session = ExplainSession(network, x)
    opening = list(runs)

    other = session.on(image(1, 1, 64, 64, seed=1))
    for channel in range(3):
        other.cams(ClassLogit(channel))

    assert opening == [(32, 32), (64, 64)]
    assert runs == [*opening, (64, 64)]


def test_another_image_is_explained_as_if_it_were_the_first():
    network, x, other = classifier(), image(1, 1, 64, 64), image(3, 1, 64, 64, seed=1)
    session = ExplainSession(network, x)
    before = session.cams(ClassLogit(1), (GradCAM(),))

    second = session.on(other)

    expected = ExplainSession(network, other)
    assert torch.equal(second.output, expected.output)
    assert torch.equal(second.features, expected.features)
    for found, alone in zip(second.cams(ClassLogit(1)), expected.cams(ClassLogit(1)), strict=True):
        assert torch.equal(found.values, alone.values)
    again = session.cams(ClassLogit(1), (GradCAM(),))
    assert torch.equal(before[0].values, again[0].values)


def test_features_are_what_the_last_layer_of_a_classifier_reads():
    network, x = classifier(), image(2, 1, 64, 64)
    read = []
    handle = network[11].register_forward_pre_hook(lambda _m, inputs: read.append(inputs[0]))

    features = ExplainSession(network, x, variants=(LayerCAM(),)).features

    handle.remove()
    assert features.dtype == torch.float32
    assert torch.allclose(features, read[-1], atol=1e-6)


def test_features_do_not_depend_on_what_else_is_asked():
    network, x = classifier(), image(2, 1, 128, 128)

    some = [
        ExplainSession(network, x, variants=each).features
        for each in (FAMILY, (LayerCAM(),), (GradCAM(), LayerCAM(layers=("2",))), ())
    ]

    assert all(torch.equal(some[0], each) for each in some[1:])


def test_features_are_those_of_the_last_layer_where_all_are_named():
    network, x = classifier(), image(2, 1, 48, 48)
    runs = counted(network)

    session = ExplainSession(network, x, layers=("2", "5"))

    assert runs == [(48, 48)]
    assert torch.allclose(session.features, network[:6](x).mean(dim=(2, 3)), atol=1e-6)


def test_own_features_are_those_of_the_deepest_layer_even_where_all_are_named():
    network, x = classifier(), image(2, 1, 64, 64)
    named = (LayerCAM(layers=("2",)),)

    session = ExplainSession(network, x, variants=named, own_features=True)

    assert torch.equal(session.features, ExplainSession(network, x).features)
    assert [each.layer for each in session.cams(ClassLogit(0))] == ["2"]


def test_features_of_a_bag_are_the_mean_over_its_instances():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = classifier()

        def forward(self, x):
            return self.network(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1)

    bag, x = Bag().eval(), image(2, 3, 1, 48, 48)

    session = ExplainSession(bag, x)

    pooled = bag.network[:9](x.flatten(0, 1)).mean(dim=(2, 3)).unflatten(0, (2, 3))
    assert torch.allclose(session.features, pooled.mean(dim=1), atol=1e-6)
    # The mean of linear heads is a linear head of the mean.
    assert [each.values.shape for each in session.cams(ClassLogit(0))] == [x.shape] * len(FAMILY)


def test_no_graph_is_recorded_before_the_earliest_layer():
    network = nn.Sequential(FailingOnTheWayBack(), *classifier()).eval()

    maps = ExplainSession(network, image(1, 1, 48, 48)).cams(ClassLogit(1))

    assert len(maps) == len(FAMILY)


def test_the_backward_pass_ends_where_its_variants_read():
    layers = list(classifier())
    network = nn.Sequential(*layers[:6], FailingOnTheWayBack(), *layers[6:]).eval()
    early, late = LayerCAM(layers=("2",)), LayerCAM(layers=("9",))
    session = ExplainSession(network, image(1, 1, 48, 48), variants=(early, late))

    (found,) = session.cams(ClassLogit(1), (late,))

    assert found.layer == "9"
    with pytest.raises(FloatingPointError, match="injected"):
        session.cams(ClassLogit(1), (early,))


def test_a_variant_that_the_network_does_not_allow_costs_the_others_nothing():
    network, x = transformer(), image(1, 1, 48, 48)
    session = ExplainSession(network, x)

    maps = session.cams(ClassLogit(1))

    assert [each.method for each in maps] == [each.name for each in FAMILY if each.name != "cam"]
    with pytest.raises(UnsuitableLayerError, match="cam is defined by"):
        session.cams(ClassLogit(1), (CAM(),))


def test_a_session_of_which_the_network_allows_nothing_still_predicts():
    network, x = transformer(), image(1, 1, 48, 48)

    session = ExplainSession(network, x, variants=(CAM(),))

    assert torch.equal(session.output, network(x))
    assert session.features.shape == (1, 24)
    assert session.cams(ClassLogit(1), ()) == ()
    with pytest.raises(UnsuitableLayerError, match="cam is defined by"):
        session.cams(ClassLogit(1))


def test_the_cost_of_a_map_is_its_share_of_the_way_back():
    maps = ExplainSession(classifier(), image(1, 1, 48, 48)).cams(ClassLogit(1))

    assert [each.cost.forwards for each in maps] == [0.0] * len(FAMILY)
    assert sum(each.cost.backwards for each in maps) == pytest.approx(1.0)
    assert all(each.cost.peak_bytes > 0 for each in maps)


def test_a_layer_that_was_not_recorded_is_not_read():
    session = ExplainSession(classifier(), image(1, 1, 48, 48), variants=(GradCAM(),))

    with pytest.raises(UnsuitableLayerError, match="layer_cam reads 2, and recorded are"):
        session.cams(ClassLogit(0), (LayerCAM(layers=("2",)),))


def test_a_choice_that_was_not_made_is_not_read():
    session = ExplainSession(classifier(), image(1, 1, 48, 48), variants=(LayerCAM(layers=("2",)),))

    with pytest.raises(UnsuitableLayerError, match="eigen_cam reads a layer of its own choice"):
        session.cams(ClassLogit(0), (EigenCAM(),))


def test_layers_may_be_named_for_all_variants():
    network, x = classifier(), image(1, 1, 48, 48)
    variants = (GradCAM(), HiResCAM(layers=("2",)))

    maps = ExplainSession(network, x, layers=("5",)).cams(ClassLogit(1), variants)

    expected = explain_all(network, x, ClassLogit(1), variants, Settings(layers=("5",)))
    for found in maps:
        assert found.layer == "5"
        assert torch.equal(found.values, expected[found.method].values)


def test_lists_of_layers_are_taken_as_routes_write_them():
    network, x = classifier(), image(1, 1, 48, 48)
    variant = LayerCAM(layers=["2", "5"])

    (found,) = ExplainSession(network, x, variants=[variant]).cams(ClassLogit(1), [variant])

    assert found.layer == "2, 5"


@pytest.mark.parametrize(
    ("network", "x", "error"),
    [
        (classifier().train(), image(1, 1, 48, 48), TrainingModeError),
        (classifier(), image(1, 1, 48, 48) * float("nan"), InputTensorError),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval(), image(1, 1, 8, 8),
         UnsuitableLayerError),
    ],
    ids=["training", "NaN", "no feature map"],
)  # fmt: skip
def test_what_cannot_be_explained_is_refused_when_the_session_is_opened(network, x, error):
    with pytest.raises(error):
        ExplainSession(network, x)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_network_that_hides_its_layers_has_no_session():
    x = image(1, 1, 48, 48)

    with pytest.raises(OpaqueNetworkError):
        ExplainSession(torch.jit.trace(classifier(), x), x)


def test_a_layer_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(UnknownLayerError, match="no layer '55'; nearest: 5"):
        ExplainSession(classifier(), image(1, 1, 48, 48), layers=("55",))


def test_an_operation_without_a_derivative_costs_the_maps_and_not_the_prediction():
    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(_context, x):
            return x.round()

    class Hard(nn.Module):
        def forward(self, x):
            return Rounded.apply(x)

    network, x = nn.Sequential(*classifier(), Hard()).eval(), image(1, 1, 48, 48)

    session = ExplainSession(network, x)

    assert torch.equal(session.output, network(x))
    with pytest.raises(UndifferentiableError):
        session.cams(ClassLogit(0), (GradCAM(),))


def test_another_image_that_is_none_is_refused():
    session = ExplainSession(classifier(), image(1, 1, 48, 48))

    with pytest.raises(InputTensorError, match="NaN"):
        session.on(torch.full((1, 1, 48, 48), float("nan")))


def test_a_caller_who_cancels_gets_no_map():
    session = ExplainSession(classifier(), image(1, 1, 48, 48))

    with pytest.raises(ExplanationCancelledError):
        session.cams(ClassLogit(0), settings=Settings(budget=Budget(cancelled=lambda: True)))


def test_a_target_that_does_not_fit_is_told_and_another_still_answered():
    session = ExplainSession(classifier(), image(1, 1, 48, 48))

    with pytest.raises(TargetError, match="channel 7"):
        session.cams(ClassLogit(7))
    assert len(session.cams(ClassLogit(0))) == len(FAMILY)


def test_a_segment_is_explained_after_its_mask_was_read_from_the_output():
    network, x = meshnet(), image(1, 1, 12, 12, 12)
    session = ExplainSession(network, x, variants=(LayerCAM(),))
    mask = session.output[0, 2] > session.output[0, 2].median()
    target = SegmentMass(2, mask)

    (found,) = session.cams(target, (LayerCAM(),))

    assert torch.equal(found.values, LayerCAM().explain(network, x, target).values)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_session_works_in_whatever_mode_its_caller_is(mode):
    network, x = classifier(), image(1, 1, 48, 48)
    expected = ExplainSession(network, x).cams(ClassLogit(1))

    with mode():
        session = ExplainSession(network, x.clone()).on(x.clone())
        found = session.cams(ClassLogit(1))

    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.values, other.values)


def test_no_trace_is_left_on_network_and_input():
    network, x = classifier(), image(1, 1, 48, 48)
    before, pixels = fingerprint(network), x.clone()

    session = ExplainSession(network, x)
    session.on(x).cams(ClassLogit(1))

    assert fingerprint(network) == before
    assert torch.equal(x, pixels)
    assert not x.requires_grad


def test_a_network_that_works_in_place_on_its_input_leaves_it_alone():
    class Doubling(nn.Module):
        def forward(self, x):
            return x.mul_(2.0)

    network, x = nn.Sequential(Doubling(), *classifier()).eval(), image(1, 1, 48, 48)
    pixels = x.clone()

    session = ExplainSession(network, x)

    assert torch.equal(x, pixels)
    assert torch.equal(session.output, classifier()(2 * x))


def test_weights_that_change_in_place_are_those_of_the_next_image():
    network, x = classifier(), image(1, 1, 48, 48)
    session = ExplainSession(network, x)
    with torch.no_grad():
        network[11].weight.mul_(-1.0)

    assert torch.equal(session.on(x).output, network(x))


def test_eight_threads_share_what_was_prepared_and_answer_as_one():
    network = classifier()
    images = [image(1, 1, 48, 48, seed=seed) for seed in range(8)]
    first = ExplainSession(network, images[0])

    def values(x):
        return [each.values for each in first.on(x).cams(ClassLogit(1))]

    serial = [values(x) for x in images]
    with ThreadPoolExecutor(max_workers=8) as threads:
        parallel = list(threads.map(values, images))

    for alone, beside in zip(serial, parallel, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))
