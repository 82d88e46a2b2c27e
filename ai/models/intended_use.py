"""Whether an image is one that a model is meant for."""

from ai.errors import UnsuitableInputError
from ai.settings import IntendedUse
from dicom_io.volume import Volume


def require_suitable(volume: Volume, use: IntendedUse) -> None:
    """Refuse an image outside a model's intended use.

    An image that does not say its body part passes, since few do and it cannot be checked; one
    that does not say the patient's age or its spacing is refused where the model has limits.

    Raises
    ------
    UnsuitableInputError
        Naming the first criterion that is not met, what was asked and what the image says.
    """
    series = f"series {volume.series_instance_uid}"
    if use.modality and volume.modality not in use.modality:
        raise UnsuitableInputError(
            f"{series}: modality {volume.modality or 'unknown'}, "
            f"the model is meant for {', '.join(use.modality)}"
        )
    body_part = volume.body_part.strip().upper()
    if use.body_part and body_part and body_part not in {part.upper() for part in use.body_part}:
        raise UnsuitableInputError(
            f"{series}: body part {body_part}, the model is meant for {', '.join(use.body_part)}"
        )
    _require_age(volume, use, series)
    _require_spacing(volume, use, series)


def _require_age(volume: Volume, use: IntendedUse, series: str) -> None:
    if use.age_years is None:
        return
    youngest, oldest = use.age_years
    asked = f"the model is meant for {youngest:g} to {oldest:g} years"
    if volume.age_years is None:
        raise UnsuitableInputError(f"{series}: patient's age unknown, {asked}")
    if not youngest <= volume.age_years <= oldest:
        raise UnsuitableInputError(f"{series}: patient's age {volume.age_years:g} years, {asked}")


def _require_spacing(volume: Volume, use: IntendedUse, series: str) -> None:
    if use.spacing_mm is None:
        return
    finest, coarsest = use.spacing_mm
    asked = f"the model is meant for {finest:g} to {coarsest:g} mm"
    spacing = volume.spacing_mm or volume.pixel_spacing_mm
    if spacing is None:
        raise UnsuitableInputError(f"{series}: spacing unknown, {asked}")
    # Scanners round: a spacing of 1.0000001 mm is 1 mm.
    if min(spacing) < finest - 1e-4 or max(spacing) > coarsest + 1e-4:
        said = " x ".join(f"{each:.3g}" for each in spacing)
        raise UnsuitableInputError(f"{series}: spacing {said} mm, {asked}")
