import hashlib
import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from ai.errors import CalibrationError, ReliabilityError
from ai.reliability.answers import Activation
from ai.reliability.assessment import Cases, fit_reliability
from ai.reliability.calibration import fit_calibration
from ai.reliability.conformal import Score
from ai.reliability.store import load_reliability, save_reliability

SHA = "ab" * 32
WIDTH = 6


def cases(activation=Activation.SIGMOID, *, channels=1, count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, channels, generator=generator)
    if activation is Activation.SIGMOID:
        labels = (torch.rand(count, channels, generator=generator) < logits.sigmoid()).long()
    else:
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    features = torch.randn(count, WIDTH, generator=generator)
    return Cases(logits=2 * logits, labels=labels, features=features, activation=activation)


@pytest.fixture
def reliability():
    return fit_reliability(cases(), weights_sha256=SHA)


@pytest.fixture
def stored(reliability, tmp_path):
    path = tmp_path / "reliability.npz"
    save_reliability(reliability, path)
    return path


def rewritten(path, **changes):
    """The same file with some of its values changed, or left out if None."""
    with np.load(path) as archive:
        values = dict(archive) | changes
    np.savez(path, **{name: value for name, value in values.items() if value is not None})
    return path


def test_an_image_is_assessed_by_all_that_was_fitted(reliability):
    logits, features = torch.tensor([[8.0], [0.1]]), torch.zeros(2, WIDTH)
    features[1] = 50.0

    found = reliability.assess(logits, features)

    fitted = fit_calibration(cases().logits, cases().labels, Activation.SIGMOID)
    expected = fitted.probabilities(logits, Activation.SIGMOID)[:, :, 1]
    assert torch.equal(found.probabilities, expected)
    assert found.sets.tolist() == [[[False, True]], [[True, True]]]
    assert found.is_single.tolist() == [[True], [False]]
    assert found.distance[0] < 3 < 50 < found.distance[1]
    assert found.in_distribution.tolist() == [True, False]


@pytest.mark.parametrize(
    ("activation", "channels", "questions", "answers"),
    [(Activation.SIGMOID, 3, 3, 2), (Activation.SOFTMAX, 4, 1, 4)],
)
def test_findings_are_several_questions_and_classes_one(activation, channels, questions, answers):
    known = cases(activation, channels=channels)
    reliability = fit_reliability(known, weights_sha256=SHA, score=Score.APS)

    found = reliability.assess(known.logits[:5], known.features[:5])

    assert found.probabilities.shape == (5, channels)
    assert found.sets.shape == (5, questions, answers)
    assert found.is_single.shape == (5, questions)
    assert len(reliability.features.means) == (channels if questions == 1 else 1)


def test_each_image_of_a_batch_is_assessed_by_itself(reliability):
    known = cases(seed=4)

    together = reliability.assess(known.logits, known.features)
    alone = reliability.assess(known.logits[7:8], known.features[7:8])

    assert torch.allclose(together.distance[7:8], alone.distance)
    assert torch.equal(together.energy[7:8], alone.energy)
    assert torch.equal(together.sets[7:8], alone.sets)


def test_an_answer_that_is_no_number_is_never_in_distribution(reliability):
    found = reliability.assess(torch.full((1, 1), math.nan), torch.zeros(1, WIDTH))
    strange = reliability.assess(torch.zeros(1, 1), torch.full((1, WIDTH), math.nan))

    assert not found.in_distribution.any()
    assert not found.is_single.any()
    assert not strange.in_distribution.any()


@pytest.mark.parametrize(
    ("logits", "features"), [((1, 2), (1, WIDTH)), ((1, 1), (1, 5)), ((2, 1), (1, WIDTH))]
)
def test_widths_that_it_was_not_fitted_to_are_refused(reliability, logits, features):
    with pytest.raises(ReliabilityError, match=r"fitted to \[B, 1\] and \[B, 6\]"):
        reliability.assess(torch.zeros(logits), torch.zeros(features))


def test_cases_without_features_for_each_are_refused():
    with pytest.raises(CalibrationError, match="299 features of 300 images"):
        fit_reliability(replace(cases(), features=torch.zeros(299, 2)), weights_sha256=SHA)


@pytest.mark.parametrize("score", list(Score))
@pytest.mark.parametrize(
    ("activation", "channels"), [(Activation.SIGMOID, 1), (Activation.SOFTMAX, 3)]
)
def test_what_was_stored_says_the_same(tmp_path, activation, channels, score):
    known = cases(activation, channels=channels)
    reliability = fit_reliability(known, weights_sha256=SHA, score=score)
    path = tmp_path / "reliability.npz"

    save_reliability(reliability, path)
    before, after = (
        each.assess(known.logits, known.features)
        for each in (reliability, load_reliability(path, weights_sha256=SHA))
    )

    assert [each.name for each in tmp_path.iterdir()] == ["reliability.npz"]
    for name in ("probabilities", "sets", "energy", "distance", "in_distribution"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name


def test_limits_without_end_are_stored_too(tmp_path):
    few = fit_reliability(cases(count=30), weights_sha256=SHA, level=0.99)
    save_reliability(few, tmp_path / "few.npz")

    loaded = load_reliability(tmp_path / "few.npz", weights_sha256=SHA)

    assert loaded.conformal.limits.tolist() == [math.inf]


def test_a_file_of_other_weights_is_refused(stored):
    with pytest.raises(ReliabilityError, match=f"sha256 {SHA}, the model has cdcd"):
        load_reliability(stored, weights_sha256="cd" * 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "pellucid reliability 0"}, "of the format 'pellucid reliability 0'"),
        ({"slopes": None}, "incomplete or not understood"),
        ({"slopes": np.ones(3)}, "incomplete or not understood"),
        ({"slopes": np.array([-1.0, 1.0])}, r"slopes -1\.0 and 1\.0"),
        ({"slopes": np.zeros(2)}, r"slopes 0\.0 and 0\.0"),
        ({"slopes": np.array([1.0, np.nan])}, "slopes 1.0 and nan"),
        ({"level": 1.0}, r"level 1\.0"),
        ({"biases": np.zeros(2)}, r"biases of shape \(2,\), expected \[1\]"),
        ({"biases": np.full(1, np.nan)}, r"expected \[1\]"),
        ({"activation": "tanh"}, "'tanh' is not a valid"),
        ({"limits": np.zeros(2)}, r"expected \[1\] without NaN"),
        ({"limits": np.full(1, np.nan)}, r"expected \[1\] without NaN"),
        ({"means": np.zeros((2, 5))}, "do not fit"),
        ({"means": np.zeros(WIDTH)}, "do not fit"),
        ({"precision": -np.eye(WIDTH)}, "no numbers that can be"),
        ({"means": np.full((2, WIDTH), np.inf)}, "no numbers that can be"),
        ({"energy_limit": np.nan}, "limits nan"),
    ],
)
def test_a_file_whose_values_cannot_be_is_refused(stored, changes, message):
    with pytest.raises(ReliabilityError, match=message):
        load_reliability(rewritten(stored, **changes), weights_sha256=SHA)


def test_classes_with_two_slopes_are_refused(tmp_path):
    known = cases(Activation.SOFTMAX, channels=3)
    path = tmp_path / "classes.npz"
    save_reliability(fit_reliability(known, weights_sha256=SHA), path)

    assert load_reliability(path, weights_sha256=SHA).temperature > 0.0
    with pytest.raises(ReliabilityError, match=r"slopes 0\.5 and 1\.0"):
        load_reliability(rewritten(path, slopes=np.array([0.5, 1.0])), weights_sha256=SHA)


def test_a_file_other_than_the_one_that_was_named_is_refused(stored):
    named = hashlib.sha256(stored.read_bytes()).hexdigest()

    assert load_reliability(stored, weights_sha256=SHA, sha256=named.upper()).cases == 300
    with pytest.raises(ReliabilityError, match=f"has sha256 {named}, listed is {SHA}"):
        load_reliability(stored, weights_sha256=SHA, sha256=SHA)


def test_what_is_no_such_file_is_refused(stored, tmp_path):
    cut = tmp_path / "cut.npz"
    cut.write_bytes(stored.read_bytes()[:200])
    words = tmp_path / "words.npz"
    words.write_text("temperature = 1.0", encoding="utf-8")
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))

    for path, message in (
        (cut, "cut.npz cannot be read"),
        (words, "words.npz cannot be read"),
        (tmp_path / "missing.npz", "missing.npz cannot be read"),
        (single, "single.npy is of the format ''"),
    ):
        with pytest.raises(ReliabilityError, match=message):
            load_reliability(path, weights_sha256=SHA)


@pytest.mark.parametrize("name", ["biases.npy", "precision.npy"])
def test_a_file_with_a_flipped_byte_among_its_values_is_refused(stored, name):
    with zipfile.ZipFile(stored) as archive:
        member = archive.getinfo(name)
    content = bytearray(stored.read_bytes())
    # Behind the member's header of 30 bytes, its name, and what zip64 adds.
    content[member.header_offset + 30 + len(name) + 20 + member.compress_size // 2] ^= 0xFF
    stored.write_bytes(content)

    with pytest.raises(ReliabilityError, match="cannot be read"):
        load_reliability(stored, weights_sha256=SHA)


def test_a_file_that_would_run_code_is_refused(stored):
    class Harm:
        def __reduce__(self):
            return (pytest.fail, ("it ran",))

    with pytest.raises(ReliabilityError, match="cannot be read"):
        load_reliability(
            rewritten(stored, means=np.array([Harm()], dtype=object)), weights_sha256=SHA
        )
