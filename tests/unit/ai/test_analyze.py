"""An image and a model to findings, segments and explanations on the image's own grid."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from pydicom import Dataset

from ai.analyze import AnalyzeSettings, ExplainerRequest, analyze
from ai.errors import (
    BudgetError,
    ExplanationCancelledError,
    ExplanationError,
    InvalidOutputError,
    MeasureError,
    NetworkChangedError,
    UnsuitableInputError,
    UnsuitableLayerError,
)
from ai.explainers.cam import GradCAM, HiResCAM, LayerCAM
from ai.explainers.integrated_gradients import IntegratedGradients
from ai.explainers.occlusion import Occlusion
from ai.limits import Limits
from ai.model import Attribution, Budget, IntendedUse, Settings
from ai.models.monai_bundle import load
from ai.targets import ClassLogit
from dicom_io.analysis import Cost
from dicom_io.read import Input
from tests.build_bundles import (
    CLASSIFIER,
    ORIENTATIONS,
    SEGMENTER,
    bright_voxel_weights,
    make_affine,
    make_volume,
    settings_for,
    write_bundle,
)


@dataclass(frozen=True)
class GradientExplainer:
    """Input times gradient, with noise from the caller's generator."""

    name: str = "gradient"
    noise: float = 0.0
    error: Exception | None = None
    seen: list = field(default_factory=list, compare=False)

    def estimate_cost(self, network, x):
        return Cost(forwards=1, backwards=1)

    def explain(self, network, x, target, settings=Settings()):  # noqa: B008
        self.seen.append(target)
        if self.error is not None:
            raise self.error
        x = x.detach().clone().requires_grad_()
        value = target(network(x), x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        values = x.detach() * gradient
        if self.noise:
            values = values + self.noise * torch.rand(x.shape, generator=settings.generator)
        if settings.budget and settings.budget.report:
            settings.budget.report(1, 2)
        return Attribution(
            values=values,
            f_x=value.detach(),
            f_baseline=None,
            residual=torch.tensor([0.25]),
            method="gradient",
            layer="0",
            baseline="zero",
            seed=None,
            cost=Cost(forwards=1, backwards=1),
            warnings=("a fake",),
        )


@dataclass(frozen=True)
class VandalExplainer(GradientExplainer):
    """Leaves the network changed."""

    def explain(self, network, x, target, settings=Settings()):  # noqa: B008
        with torch.no_grad():
            next(network.parameters()).add_(1e-3)
        return super().explain(network, x, target, settings)


@dataclass(frozen=True)
class CoarseExplainer(GradientExplainer):
    """Gives relevance on a grid of its own."""

    def explain(self, network, x, target, settings=Settings()):  # noqa: B008
        answer = super().explain(network, x, target, settings)
        return replace(answer, values=answer.values[..., ::2])


@dataclass(frozen=True)
class PaintingExplainer(GradientExplainer):
    """Changes the image that it is given."""

    def explain(self, network, x, target, settings=Settings()):  # noqa: B008
        answer = super().explain(network, x, target, settings)
        x.zero_()
        return answer


@pytest.fixture
def segmenter(tmp_path):
    folder = write_bundle(tmp_path / "s", SEGMENTER, bright_voxel_weights())
    return load(settings_for(folder))


@pytest.fixture
def classifier(tmp_path):
    weights = {
        "0.weight": torch.tensor([3.0, 9.0, -9.0, 1.0]).reshape(4, 1, 1, 1, 1),
        "0.bias": torch.zeros(4),
    }
    network = CLASSIFIER["network_def"].replace("Conv3d(1, 2, 1)", "Conv3d(1, 4, 1)")
    folder = write_bundle(
        tmp_path / "c",
        CLASSIFIER,
        weights,
        channels={"0": "Effusion", "1": "Nodule", "2": "Edema", "3": "Mass"},
        changes={"network_def": network},
    )
    return load(settings_for(folder, threshold=0.7))


def image(orientation="coronal", name="t1", *, brightness=1.0):
    voxels = np.zeros((10, 12, 14), np.float32)
    voxels[7:9, 1:4, 2:5] = brightness
    volume = make_volume(voxels, affine=make_affine(ORIENTATIONS[orientation]))
    return Input(name=name, volume=volume, headers=tuple(Dataset() for _ in volume.frames))


def bright_image():
    volume = make_volume(np.ones((4, 5, 6), np.float32), affine=make_affine(ORIENTATIONS["axial"]))
    return Input(name="ct", volume=volume, headers=())


def asked(explainer=None, **changes):
    return ExplainerRequest(name="gradient", explainer=explainer or GradientExplainer(), **changes)


@pytest.mark.parametrize("orientation", sorted(ORIENTATIONS))
def test_heatmap_lies_where_the_segment_lies_on_the_source_grid(segmenter, orientation):
    source = image(orientation)

    analysis = analyze([source], segmenter, [asked()], AnalyzeSettings())

    (segment,) = analysis.segments
    (explanation,) = analysis.explanations
    assert np.array_equal(segment.mask, source.volume.voxels[0] > 0.5)
    relevance = explanation.heatmap.relevance
    assert relevance.shape == (1, *segment.mask.shape)
    assert relevance.dtype == np.float32
    assert np.array_equal(relevance[0] > 0, segment.mask)
    assert (analysis.input_name, analysis.findings) == ("t1", ())


def test_explanation_says_how_it_was_made(segmenter):
    (explanation,) = analyze([image()], segmenter, [asked()], AnalyzeSettings()).explanations

    assert (explanation.target, explanation.method) == ("bright", "gradient")
    assert (explanation.layer, explanation.baseline, explanation.residual) == ("0", "zero", 0.25)
    assert explanation.parameters["noise"] == "0.0"
    assert explanation.warnings == ("a fake",)
    measures = {measure.name: measure.value for measure in explanation.measures}
    assert measures["integrity"] == 1
    assert measures["residual"] == 0.25
    assert measures["comprehensiveness"] > 0.9


def test_map_that_is_no_explanation_is_measured_as_such(segmenter):
    request = asked(GradientExplainer(noise=np.nan))

    (explanation,) = analyze([image()], segmenter, [request], AnalyzeSettings()).explanations

    assert {m.name: m.value for m in explanation.measures} == {"integrity": 0.0, "residual": 0.25}


def test_measuring_can_be_left_out(segmenter):
    (explanation,) = analyze(
        [image()], segmenter, [asked()], AnalyzeSettings(measure=False)
    ).explanations

    assert explanation.measures == ()


def test_findings_below_the_operating_point_are_reported_and_not_explained(classifier):
    analysis = analyze([bright_image()], classifier, [asked()], AnalyzeSettings())

    assert [(f.label, f.present) for f in analysis.findings] == [
        ("Effusion", True), ("Nodule", True), ("Edema", False), ("Mass", True),
    ]  # fmt: skip
    assert [e.target for e in analysis.explanations] == ["Nodule", "Effusion", "Mass"]


def test_no_more_is_explained_than_asked(classifier):
    analysis = analyze([bright_image()], classifier, [asked()], AnalyzeSettings(max_explained=1))

    assert [e.target for e in analysis.explanations] == ["Nodule"]


def test_request_may_name_its_targets(classifier):
    request = asked(targets=("Mass", "Edema"))

    analysis = analyze([bright_image()], classifier, [request], AnalyzeSettings())

    assert [e.target for e in analysis.explanations] == ["Mass"]


def test_target_that_the_model_does_not_know_is_refused(classifier):
    with pytest.raises(ExplanationError, match="no label Fracture; it has Effusion, Nodule"):
        analyze([bright_image()], classifier, [asked(targets=("Fracture",))], AnalyzeSettings())


def test_image_without_the_structure_has_neither_segment_nor_explanation(segmenter):
    analysis = analyze([image(brightness=0.0)], segmenter, [asked()], AnalyzeSettings())

    assert (analysis.segments, analysis.explanations) == ((), ())


def test_output_that_is_no_number_is_no_result(segmenter):
    with pytest.raises(InvalidOutputError, match=r"model bright: .* NaN or infinite"):
        analyze([image(brightness=np.nan)], segmenter, [], AnalyzeSettings())


def test_unsuitable_image_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "s", SEGMENTER, bright_voxel_weights())
    model = load(settings_for(folder, intended_use=IntendedUse(modality=("CT",))))

    with pytest.raises(UnsuitableInputError, match="modality MR"):
        analyze([image()], model, [], AnalyzeSettings())


def test_same_seed_gives_the_same_heatmap_in_whatever_order(segmenter):
    noisy, quiet = asked(GradientExplainer(noise=1.0)), asked()

    first = analyze([image()], segmenter, [noisy, quiet], AnalyzeSettings(seed=3))
    second = analyze([image()], segmenter, [quiet, noisy], AnalyzeSettings(seed=3))
    other = analyze([image()], segmenter, [noisy], AnalyzeSettings(seed=4))

    one, two = first.explanations[0].heatmap.relevance, second.explanations[1].heatmap.relevance
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other.explanations[0].heatmap.relevance)


def test_explainer_that_changes_the_network_is_caught(segmenter):
    with pytest.raises(NetworkChangedError, match="left the network of model bright changed"):
        analyze([image()], segmenter, [asked(VandalExplainer())], AnalyzeSettings())


def test_explainer_that_changes_the_network_and_then_fails_is_caught_too(segmenter):
    vandal = VandalExplainer(error=UnsuitableLayerError("no layer"))

    with pytest.raises(NetworkChangedError):
        analyze([image()], segmenter, [asked(vandal)], AnalyzeSettings())


def test_relevance_on_another_grid_is_no_explanation(segmenter):
    analysis = analyze([image()], segmenter, [asked(CoarseExplainer())], AnalyzeSettings())

    assert analysis.explanations == ()
    assert "for an input of" in analysis.failures[0].reason


@pytest.mark.parametrize("error", [UnsuitableLayerError, MeasureError, BudgetError])
def test_explanation_that_cannot_be_made_costs_neither_findings_nor_others(classifier, error):
    failing = ExplainerRequest(
        name="cam", explainer=GradientExplainer(error=error("no feature map"), noise=0.5)
    )

    analysis = analyze([bright_image()], classifier, [failing, asked()], AnalyzeSettings())

    targets = ["Nodule", "Effusion", "Mass"]
    assert [f.label for f in analysis.findings if f.present] == ["Effusion", "Nodule", "Mass"]
    assert [(e.target, e.method) for e in analysis.explanations] == [
        (target, "gradient") for target in targets
    ]
    assert [(f.target, f.method, f.reason.partition(":")[0]) for f in analysis.failures] == [
        (target, "cam", "no feature map") for target in targets
    ]
    assert analysis.failures[0].parameters["noise"] == "0.5"


@pytest.mark.parametrize(
    "error", [MemoryError("all"), ValueError("a mistake"), ExplanationCancelledError("stop")]
)
def test_memory_mistakes_and_a_caller_who_cancels_stay_errors(segmenter, error):
    with pytest.raises(type(error)):
        analyze([image()], segmenter, [asked(GradientExplainer(error=error))], AnalyzeSettings())


class _Rounded(torch.autograd.Function):
    """An operation that nobody has written the derivative of."""

    @staticmethod
    def forward(_context, x):
        return x.round()


class Hard(torch.nn.Module):
    def forward(self, x):
        return _Rounded.apply(x)


class Careless(torch.nn.Module):
    """Doubles its input where it lies."""

    def forward(self, x):
        return x.mul_(2.0)


def changed(model, *, first=None, last=None):
    parts = [part for part in (first, model.network, last) if part is not None]
    return replace(model, network=torch.nn.Sequential(*parts).eval())


@pytest.mark.parametrize("kind", [LayerCAM(layers=("0",)), IntegratedGradients()])
def test_network_without_a_derivative_keeps_its_findings(segmenter, kind):
    model = changed(segmenter, last=Hard())
    request = ExplainerRequest(name="real", explainer=kind)

    analysis = analyze([image()], model, [request], AnalyzeSettings())

    assert [segment.label for segment in analysis.segments] == ["bright"]
    assert "cannot be differentiated" in analysis.failures[0].reason


class Careful(torch.nn.Module):
    def forward(self, x):
        return x * 2.0


@pytest.mark.parametrize("kind", [Occlusion(), LayerCAM(layers=("1",))])
def test_network_that_changes_its_input_is_explained_on_the_image_as_it_is(segmenter, kind):
    source = image(brightness=0.4)
    request = ExplainerRequest(name="real", explainer=kind)

    careless, careful = (
        analyze([source], changed(segmenter, first=first), [request], AnalyzeSettings())
        for first in (Careless(), Careful())
    )

    assert np.array_equal(careless.segments[0].mask, source.volume.voxels[0] > 0.3)
    (found,), (expected,) = careless.explanations, careful.explanations
    assert np.array_equal(found.heatmap.relevance, expected.heatmap.relevance)


def test_explainer_that_changes_its_input_is_told_by_name(segmenter):
    analysis = analyze([image()], segmenter, [asked(PaintingExplainer())], AnalyzeSettings())

    assert [segment.label for segment in analysis.segments] == ["bright"]
    assert analysis.explanations == ()
    assert "changed its input" in analysis.failures[0].reason


def test_network_that_works_in_place_is_differentiated_as_it_is(segmenter):
    model = changed(segmenter, first=Careless())
    request = ExplainerRequest(name="real", explainer=IntegratedGradients())

    careless = analyze([image()], model, [request], AnalyzeSettings())

    assert careless.failures == ()
    assert careless.explanations[0].residual == pytest.approx(0, abs=1e-3)


def test_relevance_that_is_no_number_is_not_sound(segmenter):
    broken = GradientExplainer(noise=float("nan"))

    (explanation,) = analyze([image()], segmenter, [asked(broken)], AnalyzeSettings()).explanations

    measures = {measure.name: measure.value for measure in explanation.measures}
    assert measures["integrity"] == 0
    assert "comprehensiveness" not in measures


@pytest.mark.parametrize("kind", [LayerCAM, IntegratedGradients])
def test_real_explainers_point_at_what_is_bright(tmp_path, kind):
    network = "$torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.ReLU(), @last)"
    changes = {"network_def": network, "last": "$torch.nn.Conv3d(1, 2, 1)"}
    weights = {"0.weight": torch.ones(1, 1, 1, 1, 1), "0.bias": torch.zeros(1)}
    weights |= {f"2.{name}": value for name, value in bright_voxel_weights().items()}
    model = load(settings_for(write_bundle(tmp_path / "b", SEGMENTER, weights, changes=changes)))
    source = image("sagittal")
    request = ExplainerRequest(name="real", explainer=kind())

    (explanation,) = analyze([source], model, [request], AnalyzeSettings()).explanations

    place = np.unravel_index(
        explanation.heatmap.relevance[0].argmax(), source.volume.voxels.shape[1:]
    )
    assert source.volume.voxels[0][place] == 1


class Counting(torch.nn.Module):
    """Notes the spatial extents of each input of a network that it stands in front of."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape[2:]))
        return x


CAMS = (
    LayerCAM(layers=("2",)),
    GradCAM(layers=("2",)),
    HiResCAM(layers=("2",), signed=True),
)


def rectified(model):
    """Return a model whose network has a feature map, the layer 2, and notes what it is given."""
    counting = Counting()
    first = torch.nn.Conv3d(1, 2, 1)
    torch.nn.init.constant_(first.weight, 1.0)
    torch.nn.init.constant_(first.bias, 0.0)
    last = torch.nn.Conv3d(2, 4, 1)
    torch.nn.init.constant_(last.weight, 1.0)
    torch.nn.init.constant_(last.bias, 1.0)
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten())
    network = torch.nn.Sequential(counting, first, torch.nn.ReLU(), last, pooled)
    return replace(model, network=network.eval()), counting


def test_prediction_and_all_maps_of_all_findings_take_one_forward_pass(classifier):
    model, counting = rectified(classifier)
    requests = [ExplainerRequest(name=each.name, explainer=each) for each in CAMS]

    shared = analyze([bright_image()], model, requests, AnalyzeSettings(measure=False))

    passes = len(counting.seen)
    assert (passes, len(shared.explanations), shared.failures) == (1, 3 * len(CAMS), ())
    assert {each.cost.forwards for each in shared.explanations} == {0.0}


def test_maps_from_the_shared_pass_are_those_of_the_explainer_alone(classifier):
    model, _ = rectified(classifier)
    x = model.prepare(bright_image().volume).tensor

    for each in CAMS:
        request = ExplainerRequest(name=each.name, explainer=each, targets=("Nodule",))
        (found,) = analyze([bright_image()], model, [request], AnalyzeSettings()).explanations
        alone = each.explain(model.network, x, ClassLogit(1))
        assert found.heatmap.relevance.max() == pytest.approx(float(alone.values.max()), rel=1e-6)
        assert found.layer == alone.layer == "2"
        assert found.measures


def test_prediction_does_not_depend_on_what_is_explained(classifier):
    model, _ = rectified(classifier)
    request = ExplainerRequest(name="cam", explainer=CAMS[0])

    alone = analyze([bright_image()], model, [], AnalyzeSettings())
    explained = analyze([bright_image()], model, [request], AnalyzeSettings())

    assert alone.findings == explained.findings


@pytest.mark.parametrize("layer", ["4", "nowhere"])
def test_map_that_cannot_be_made_costs_the_others_nothing(classifier, layer):
    model, _ = rectified(classifier)
    wrong = LayerCAM(layers=(layer,))
    requests = [ExplainerRequest(name=each.name, explainer=each) for each in (wrong, CAMS[1])]

    analysis = analyze([bright_image()], model, requests, AnalyzeSettings(max_explained=1))

    assert [each.method for each in analysis.explanations] == ["grad_cam"]
    assert f"layer '{layer}'" in analysis.failures[0].reason


def test_map_that_memory_does_not_allow_is_not_made_in_the_shared_pass(classifier):
    model, _ = rectified(classifier)
    searched = ExplainerRequest(name="layer_cam", explainer=LayerCAM())

    analysis = analyze(
        [bright_image()],
        model,
        [searched],
        AnalyzeSettings(limits=Limits(memory_bytes=1), max_explained=1),
    )

    assert analysis.explanations == ()
    assert "of memory" in analysis.failures[0].reason


def test_no_map_is_begun_when_the_time_is_up(classifier):
    model, _ = rectified(classifier)
    request = ExplainerRequest(name="cam", explainer=CAMS[0])

    analysis = analyze(
        [bright_image()], model, [request], AnalyzeSettings(limits=Limits(expired=lambda: True))
    )

    assert len(analysis.findings) == 4
    assert analysis.explanations == ()
    assert "the time for explaining was over" in analysis.failures[0].reason


def test_progress_rises_to_the_whole(classifier):
    heard = []
    budget = Budget(report=lambda done, total: heard.append((done, total)))

    analyze([bright_image()], classifier, [asked()], AnalyzeSettings(budget=budget))

    shares = [done / total for done, total in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == 1 + 2 * 3


def test_sliding_window_is_explained_around_the_segment_and_says_so(tmp_path):
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [8, 8, 2], "overlap": 0.25}
    folder = write_bundle(
        tmp_path / "w", SEGMENTER, bright_voxel_weights(), changes={"inferer": inferer}
    )
    source = image("axial")

    analysis = analyze([source], load(settings_for(folder)), [asked()], AnalyzeSettings())

    (explanation,) = analysis.explanations
    relevance = explanation.heatmap.relevance[0]
    assert np.array_equal(relevance > 0, source.volume.voxels[0] > 0.5)
    assert (
        "one window of 8 x 8 x 2 voxels that holds 100% of the segment"
        in (explanation.warnings[-1])
    )


def test_classifier_with_windows_says_that_only_the_middle_is_explained(classifier):
    windowed = replace(classifier, inferer=SlidingWindowInferer(roi_size=(2, 2, 2)))
    prepared = windowed.prepare(bright_image().volume)

    class Windowed:
        card, network, labels, threshold = (
            classifier.card, classifier.network, classifier.labels, classifier.threshold,
        )  # fmt: skip
        reliability = None

        def prepare(self, _volume):
            return prepared

        def predict(self, prepared):
            return classifier.predict(prepared)

    analysis = analyze([bright_image()], Windowed(), [asked()], AnalyzeSettings())

    assert "one window of 2 x 2 x 2 voxels in the middle" in analysis.explanations[0].warnings[-1]


def test_source_is_never_changed_and_results_are_read_only(segmenter):
    source = image()

    analysis = analyze([source], segmenter, [asked()], AnalyzeSettings())

    assert not analysis.segments[0].mask.flags.writeable
    assert not analysis.explanations[0].heatmap.relevance.flags.writeable
    assert np.array_equal(source.volume.voxels, image().volume.voxels)
