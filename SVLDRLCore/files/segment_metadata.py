"""The segments of a .seg.nrrd: names, colours and layers in the header, as Slicer writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from SVLDRLCore.errors import InputError

_TISSUE = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^85756007^Tissue~SCT^85756007^Tissue"
    "~^^~Anatomic codes - DICOM master list~^^~^^"
)


@dataclass(frozen=True)
class Segment:
    """One structure of a label map: its value, name and colour (r, g, b in 0..1)."""

    value: int
    name: str
    color: tuple[float, ...] = (0.5, 0.5, 0.5)
    layer: int = 0


def read_segments(metadata: Mapping[str, str], path: Path | str = "the segmentation") -> tuple[Segment, ...]:
    """The segments that a .seg.nrrd's header describes, in its order; duplicate and empty names are kept.

    InputError, naming the field, for label values and layers that are no whole numbers of their range. A colour that
    cannot be read becomes grey.
    """
    numbers = sorted({int(m[1]) for key in metadata if (m := re.match(r"Segment(\d{1,9})_", key, re.ASCII))})
    segments = []
    for i in numbers:
        # Before Slicer 4.11 there was no LabelValue: each segment had a layer of its own with value 1.
        old = f"Segment{i}_LabelValue" not in metadata
        segments.append(
            Segment(
                value=1 if old else _whole(metadata, f"Segment{i}_LabelValue", 1, 65535, path),
                name=metadata.get(f"Segment{i}_Name", metadata.get(f"Segment{i}_ID", "")),
                color=_color(metadata.get(f"Segment{i}_Color", "")),
                layer=i if old else _whole(metadata, f"Segment{i}_Layer", 0, 65535, path),
            )
        )
    return tuple(segments)


def _whole(metadata: Mapping[str, str], key: str, lowest: int, highest: int, path: Path | str) -> int:
    """A whole number, written as such or as "1.0"; `lowest` where the key is absent."""
    text = metadata.get(key, str(lowest)).strip()
    match = re.fullmatch(r"([+-]?\d{1,9})(\.0*)?", text, re.ASCII)
    if match is None or not lowest <= int(match[1]) <= highest:
        why = f"its header field {key} is {text[:40]!r}, not a whole number from {lowest} to {highest}"
        raise InputError(str(path), why, "Export the segmentation again from the program that wrote it")
    return int(match[1])


def _color(text: str) -> tuple[float, ...]:
    """Red, green, blue from "1 0.5 0", or "1 0,5 0" as some locales write it; grey for anything else."""
    try:
        color = tuple(float(word.replace(",", ".")) for word in text.split())
    except ValueError:
        color = ()
    if len(color) != 3 or not all(0 <= part <= 1 for part in color):
        return (0.5, 0.5, 0.5)
    return color


def segments_on_layers(
    segments: Sequence[Segment], layers: int, path: Path
) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """The segments whose layer a file of `layers` has, and a sentence for each of the others, as Slicer reads it.

    A header may outlive its layers: a program that keeps only the first one often keeps the whole header.
    """
    kept = tuple(segment for segment in segments if segment.layer < layers)
    lost = [segment for segment in segments if segment.layer >= layers]
    has = f"the file has {layers} layer{'s' * (layers > 1)}"
    return kept, tuple(
        f"{path}: the segment {segment.name!r} is left out, its voxels are in layer {segment.layer} but {has}"
        for segment in lost
    )


def merge_layers(layers: np.ndarray, segments: Sequence[Segment], path: Path) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """One label map (D, H, W) from layers (D, H, W, L), with its segments.

    Values stay where they are unique, else segments are numbered 1, 2, ... in their order. Raises InputError
    when two segments overlap, or when the header does not say which segment a layer holds.
    """
    if not segments:
        why = f"it has {layers.shape[-1]} layers but names no segments"
        raise InputError(str(path), why, "Save the segmentation as a label map with one value a structure")
    if len({segment.value for segment in segments}) < len(segments):
        numbered = [replace(segment, value=i + 1) for i, segment in enumerate(segments)]
    else:
        numbered = list(segments)
    merged = np.zeros(layers.shape[:-1], np.uint8 if max(s.value for s in numbered) <= 255 else np.uint16)
    for old, new in zip(segments, numbered):
        mask = layers[..., old.layer] == old.value
        taken = merged[mask]
        if taken.any():
            other = next(s for s in numbered if s.value == taken[taken > 0][0])
            why = f"the segments {other.name!r} and {old.name!r} overlap in {np.count_nonzero(taken):,} voxels"
            raise InputError(str(path), why, "Export each of them as a file of its own, or remove the overlap")
        merged[mask] = new.value
    return merged, tuple(numbered)


def segmentation_metadata(segments: Sequence[Segment], size_dhw: tuple[int, ...]) -> dict[str, str]:
    """The header fields that make a label map of this size a segmentation for Slicer."""
    extent = " ".join(f"0 {n - 1}" for n in size_dhw[::-1])
    fields = {
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for i, segment in enumerate(segments):
        fields |= {
            f"Segment{i}_ID": f"Segment_{i + 1}",
            f"Segment{i}_Name": segment.name.replace("\r", " "),  # a header line ends there
            f"Segment{i}_NameAutoGenerated": "0",
            f"Segment{i}_Color": " ".join(f"{c:.6g}" for c in segment.color),
            f"Segment{i}_ColorAutoGenerated": "0",
            f"Segment{i}_LabelValue": str(segment.value),
            f"Segment{i}_Layer": "0",
            f"Segment{i}_Extent": extent,
            f"Segment{i}_Tags": f"TerminologyEntry:{_TISSUE}|",
        }
    return fields
