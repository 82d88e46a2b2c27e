"""Enhanced multi-frame images: one stack from the functional groups of their frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from dicom_io.assemble import Place, assembled_volume
from dicom_io.errors import (
    InvalidValueError,
    MissingAttributeError,
    MixedSeriesError,
    UnsupportedImageError,
)
from dicom_io.geometry import Plane, plane_of, stacked
from dicom_io.inherited import display_window, inherited_header
from dicom_io.load import load_instance
from dicom_io.localizers import refuse_localizers
from dicom_io.modality import RESCALED_MODALITIES, ModalityTransform, modality_transform
from dicom_io.pixels import (
    frame_count,
    is_color,
    pixel_keyword,
    stored_frames,
)
from dicom_io.study import Instance
from dicom_io.values import items, text
from dicom_io.volume import SourceFrame, Volume


def read_enhanced(instance: Instance) -> tuple[Volume, tuple[Dataset, ...]]:
    """Return the stack that the frames of an instance form, and the instance's header.

    Frames are placed by their functional groups, per-frame ones before shared ones, and each
    is rescaled by its own. Raises as ``dicom_io.read.read_input``.
    """
    uid = instance.sop_instance_uid
    dataset = load_instance(instance)
    pixel_keyword(dataset, uid)
    if is_color(dataset, uid):
        raise UnsupportedImageError(f"instance {uid} has color slices, expected grayscale")
    refuse_localizers([dataset], instance.series_instance_uid)
    groups = _frame_groups(dataset, uid)
    stack = stacked([group.plane for group in groups], instance.series_instance_uid)
    first = groups[stack.order[0]].plane
    place_of = {index: place for place, index in enumerate(stack.order)}
    voxels = np.empty((1, len(groups), *first.shape), dtype=np.float32)
    for index, stored in enumerate(stored_frames(dataset, uid)):
        voxels[0, place_of[index]] = groups[index].transform.apply(stored)
    header = inherited_header(dataset)
    volume = assembled_volume(
        voxels,
        Place(affine=stack.affine, pixel_spacing_mm=first.spacing),
        header=header,
        frames=[
            SourceFrame(
                sop_instance_uid=uid, sop_class_uid=instance.sop_class_uid, frame_number=index + 1
            )
            for index in stack.order
        ],
        window=display_window(groups[stack.order[len(groups) // 2]].voi, uid),
    )
    return volume, (header,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrameGroups:
    """What the functional groups say of one frame."""

    plane: Plane
    transform: ModalityTransform
    #: Holds Window Center and Width; empty where the frame has no VOI.
    voi: Dataset


def _frame_groups(dataset: Dataset, uid: str) -> tuple[_FrameGroups, ...]:
    shared = items(dataset, "SharedFunctionalGroupsSequence", uid) or (Dataset(),)
    frames = items(dataset, "PerFrameFunctionalGroupsSequence", uid)
    if not frames:
        raise MissingAttributeError(
            f"instance {uid} lacks PerFrameFunctionalGroupsSequence (PS3.3 C.7.6.16): "
            "its frames have no place"
        )
    count = frame_count(dataset, uid)
    if len(frames) != count:
        raise InvalidValueError(
            f"instance {uid}: functional groups of {len(frames)} frames, expected {count}"
        )
    _require_one_stack(frames, uid)
    return tuple(
        _groups_of_frame(dataset, shared[0], item, f"{uid} frame {number}")
        for number, item in enumerate(frames, start=1)
    )


def _require_one_stack(frames: Sequence[Dataset], uid: str) -> None:
    contents = [items(frame, "FrameContentSequence", uid) for frame in frames]
    stacks = {text(content[0], "StackID") for content in contents if content}
    if len(stacks) > 1:
        raise MixedSeriesError(
            f"instance {uid} holds {len(stacks)} stacks of frames, expected 1: "
            "which of them is meant is not known"
        )


def _groups_of_frame(dataset: Dataset, shared: Dataset, item: Dataset, uid: str) -> _FrameGroups:
    plane = plane_of(
        image=dataset,
        position=_group(shared, item, "PlanePositionSequence", uid),
        orientation=_group(shared, item, "PlaneOrientationSequence", uid),
        measures=_group(shared, item, "PixelMeasuresSequence", uid),
        uid=uid,
    )
    transform = _optional_group(shared, item, "PixelValueTransformationSequence", uid)
    modality = text(dataset, "Modality")
    if transform is None and modality in RESCALED_MODALITIES:
        raise MissingAttributeError(
            f"instance {uid} lacks PixelValueTransformationSequence: "
            f"without rescale its {modality} values have no unit"
        )
    return _FrameGroups(
        plane=plane,
        transform=modality_transform(transform, uid) if transform else ModalityTransform(),
        voi=_optional_group(shared, item, "FrameVOILUTSequence", uid) or Dataset(),
    )


def _group(shared: Dataset, item: Dataset, keyword: str, uid: str) -> Dataset:
    group = _optional_group(shared, item, keyword, uid)
    if group is None:
        raise MissingAttributeError(f"instance {uid} lacks {keyword} (PS3.3 C.7.6.16.2)")
    return group


def _optional_group(shared: Dataset, item: Dataset, keyword: str, uid: str) -> Dataset | None:
    found = items(item, keyword, uid) or items(shared, keyword, uid)
    return found[0] if found else None
