"""The audit: wrong labels first, where they are wrong, in Slicer's coordinates, and no label is ever touched."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from SVLDRLCore.config.settings import load_config
from SVLDRLCore.errors import Cancelled, InputError
from SVLDRLCore.files.datalist import (
    Case,
    DataList,
    load_datalist,
    save_datalist,
)
from SVLDRLCore.files.volumes import (
    Geometry,
    Segment,
    read_label,
    same_geometry,
    write_image,
    write_label,
)
from SVLDRLCore.job_control import JobControl
from SVLDRLCore.jobs import audited_case
from SVLDRLCore.jobs.audit import Audit, audit
from SVLDRLCore.jobs.audit_evidence import told_of_not_drawn
from SVLDRLCore.label_quality.audit_rows import Look, audit_rows, offered_list
from SVLDRLCore.label_quality.comparison import (
    NOT_KNOWN,
    Findings,
    Region,
    compare_label,
    suspect,
)
from SVLDRLCore.masks.borders import shift_border
from SVLDRLCore.masks.structures import structures_of
from SVLDRLCore.models.package import save_package
from SVLDRLCore.models.trained_model import build_networks, package_config, package_tensors

SPACING = (4.0, 4.0, 4.0)
OBLIQUE = tuple(np.linalg.qr(np.array([[-0.9, 0.3, 0.1], [0.3, 0.9, 0.2], [0.1, -0.2, -0.95]]))[0].ravel().tolist())
GRID = Geometry((20, 28, 30), SPACING, (10.0, -40.0, 25.0), OBLIQUE)


def ball(centre: tuple[float, ...], radius_mm: float, shape: tuple[int, ...] = GRID.size_dhw) -> np.ndarray:
    at = (np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))) * np.reshape(SPACING, (3, 1, 1, 1))
    return np.linalg.norm(at, axis=0) < radius_mm


ORGAN = ball((10, 14, 15), 30.0)


# One label beside a prediction.


@pytest.mark.parametrize("shift_mm", [-8.0, -4.0, 0.0, 4.0, 8.0])
def test_an_even_shift_is_measured_and_is_no_missing_part(shift_mm: float) -> None:
    found = compare_label(shift_border(ORGAN, SPACING, -shift_mm), ORGAN.astype(float), SPACING)
    assert found.shift_mm == pytest.approx(shift_mm, abs=1.0)
    assert max(found.missing, found.leak) < 0.05


def test_missing_parts_and_leaks_are_found_where_they_are() -> None:
    bite, blob = ball((10, 14, 8), 20.0) & ORGAN, ball((10, 4, 15), 14.0) & ~ORGAN
    found = compare_label(ORGAN & ~bite, ORGAN.astype(float), SPACING)
    assert found.missing > 0.1 > found.leak
    assert found.regions["missing part"].centroid_dhw == pytest.approx(np.argwhere(bite).mean(0), abs=1.5)
    found = compare_label(ORGAN | blob, ORGAN.astype(float), SPACING)
    assert found.leak > 0.02 > found.missing
    assert found.regions["leak"].centroid_dhw == pytest.approx(np.argwhere(blob).mean(0), abs=1.5)
    assert found.regions["leak"].voxels == pytest.approx(blob.sum(), rel=0.5)


def test_empty_labels_and_empty_predictions() -> None:
    nothing = np.zeros(GRID.size_dhw, bool)
    found = compare_label(nothing, ORGAN.astype(float), SPACING)
    assert found.empty
    assert found.regions["empty"].voxels == found.found_voxels == ORGAN.sum()
    found = compare_label(ORGAN, nothing.astype(float), SPACING)
    assert (found.empty, found.dice, found.leak) == (False, 0.0, pytest.approx(1.0))
    found = compare_label(nothing, nothing.astype(float), SPACING)
    assert (found.empty, found.found_voxels, found.dice) == (True, 0, 1.0)


# The label among its like.

USUAL = Findings(0.0, 0.02, 0.02, 1.0, 0.0, 0.9, {}, False, 1000, 1000)


def usual(count: int, **values: float) -> list[Findings]:
    rng = np.random.default_rng(0)
    one = replace(USUAL, **values)
    return [
        replace(
            one,
            shift_mm=one.shift_mm + rng.normal(0, 0.4),
            normalised_cross_entropy=one.normalised_cross_entropy + rng.normal(0, 0.1),
        )
        for _ in range(count)
    ]


def scores(findings: list[Findings], trusted: list[int] = (), weights: dict[int, float] | None = None) -> np.ndarray:
    n = range(len(findings))
    made, _ = suspect(findings, [i in trusted for i in n], [(weights or {}).get(i) for i in n], 2.0)
    return np.array([suspicion.score for suspicion in made])


@pytest.mark.parametrize("bias_mm", [0.0, 2.5, -2.5])
def test_a_shift_only_counts_beside_the_others(bias_mm: float) -> None:
    """A model that always draws too wide is no reason to doubt anybody."""
    found = usual(12, shift_mm=bias_mm)
    assert scores(found).max() < 0.5
    found[3] = replace(found[3], shift_mm=bias_mm + 6.0)
    found[7] = replace(found[7], shift_mm=bias_mm - 6.0)
    made, _ = suspect(found, [False] * 12, [None] * 12, 2.0)
    assert {i for i, s in enumerate(made) if s.score > 0.5} == {3, 7}
    assert {made[3].kind, made[7].kind} == {"border shift"}


@pytest.mark.parametrize(("what", "kind"), [("missing", "missing part"), ("leak", "leak")])
def test_pieces_count_too(what: str, kind: str) -> None:
    found = usual(12)
    found[5] = replace(found[5], **{what: 0.5})
    made, _ = suspect(found, [False] * 12, [None] * 12, 2.0)
    assert made[5].score > 0.75
    assert made[5].kind == kind
    assert max(s.score for i, s in enumerate(made) if i != 5) < 0.5


def test_trusted_cases_or_weights_say_which_half_is_right() -> None:
    """As many labels are 4 mm too wide as are right: without a hint either half may be."""
    found = [*usual(6, shift_mm=-2.0), *usual(6, shift_mm=2.0)]
    low, high = np.arange(12) < 6, np.arange(12) >= 6
    for right, wrong in ((low, high), (high, low)):
        hinted = scores(found, trusted=np.flatnonzero(right)[:3].tolist())
        assert hinted[right].max() < 0.5 < hinted[wrong].min()
        hinted = scores(found, weights={int(i): 0.9 for i in np.flatnonzero(right)[:4]})
        assert hinted[right].max() < 0.5 < hinted[wrong].min()


def test_labels_that_a_network_made_are_not_cleared_by_fitting_well() -> None:
    right, made = (
        usual(10, shift_mm=1.0, normalised_cross_entropy=1.4),
        usual(10, shift_mm=0.0, normalised_cross_entropy=0.3, fragments=0.02),
    )
    suspicions, warnings = suspect([*right, *made], [False] * 20, [None] * 20, 2.0)
    assert max(s.score for s in suspicions[:10]) < min(s.score for s in suspicions[10:])
    assert "network" in warnings[0]


def test_few_cases_are_judged_by_themselves() -> None:
    assert scores([replace(USUAL, shift_mm=6.0)])[0] > 0.5 > scores([USUAL])[0]


def test_an_empty_label_is_suspect_where_the_others_are_not() -> None:
    nothing = replace(USUAL, empty=True, label_voxels=0)
    of_usual_size, of_none = scores([*usual(9), nothing])[-1], scores([*usual(9), replace(nothing, found_voxels=0)])[-1]
    assert of_usual_size > 0.9 > 0.5 > of_none > 0.3
    assert scores([replace(nothing, found_voxels=0)] * 3).max() == 0


def test_a_trusted_case_that_lacks_it_proves_that_absence_happens() -> None:
    nothing = replace(USUAL, empty=True, label_voxels=0, found_voxels=0)
    doubted, proven = scores([*usual(9), nothing, nothing]), scores([*usual(9), nothing, nothing], [10])
    assert (doubted[9:] > 0.3).all()
    assert proven[9:].tolist() == [0.0, 0.0]
    assert scores([*usual(9), replace(nothing, found_voxels=1000), nothing], [10])[9] > 0.9  # unless the model finds it


def test_a_label_that_is_not_known_everywhere_lacks_nothing() -> None:
    """What it does not show may lie where nobody has labelled, unless the model finds it beside that."""
    nothing = replace(USUAL, empty=True, label_voxels=0, found_voxels=0, regions={})
    partly = replace(nothing, partly=True)
    assert scores([*usual(9), partly])[-1] == 0.0
    assert scores([*usual(9), replace(partly, found_voxels=1000)])[-1] > 0.9
    alone, beside = scores([*usual(3), nothing]), scores([*usual(3), nothing, *[partly] * 9])
    assert beside[3] == alone[3] > 0.3
    assert scores([*usual(9), nothing, partly], [10])[9] > 0.3  # nor does a trusted one prove that absence happens
    pairs = [(USUAL, USUAL)] * 2 + [(USUAL, nothing)] + [(USUAL, partly)] * 6
    looks = [
        Look(Case(f"c{n}", (Path("i.nrrd"),), Path("l.nrrd")), dict(enumerate(pair)), {0: 1.0, 1: 1.0}, GRID)
        for n, pair in enumerate(pairs)
    ]
    rows, _ = audit_rows(looks, ("liver", "spleen"), {}, Path("corrected"))
    assert [(row.case, row.structure) for row in rows if row.kind == "missing structure"] == [("c2", "spleen")]


def test_one_of_two_structures_that_a_label_lacks_is_named() -> None:
    """Also where the model does not find it either, if most labels have it; of a rare one nothing is told then."""
    nothing = replace(USUAL, empty=True, label_voxels=0, found_voxels=0, regions={})
    forgotten = replace(nothing, found_voxels=900, regions={"empty": Region((1.0, 2.0, 3.0), 900)})
    pairs = [(USUAL, nothing)] * 2 + [(USUAL, USUAL)] * 6 + [(USUAL, forgotten), (nothing, nothing)]
    looks = [
        Look(Case(f"c{n}", (Path("i.nrrd"),), Path("l.nrrd")), dict(enumerate(pair)), {0: 1.0, 1: 1.0}, GRID)
        for n, pair in enumerate(pairs)
    ]
    rows, _ = audit_rows(looks, ("liver", "spleen"), {}, Path("corrected"))
    told = {(row.case, row.structure): row for row in rows if row.kind in ("empty", "missing structure")}
    assert {key: row.kind for key, row in told.items()} == {
        ("c0", "spleen"): "missing structure", ("c1", "spleen"): "missing structure",
        ("c8", "spleen"): "missing structure", ("c9", "liver"): "empty", ("c9", "spleen"): "empty",
    }  # fmt: skip
    assert told["c8", "spleen"].score > 0.9
    assert told["c8", "spleen"].volume_ml > 0
    rare, _ = audit_rows(looks[:2] + looks[9:], ("liver", "spleen"), {}, Path("corrected"))
    assert [(row.case, row.structure) for row in rare if row.kind in ("empty", "missing structure")] == [
        ("c9", "liver")
    ]


def test_world_positions_are_slicers() -> None:
    plain = Geometry((4, 5, 6), (3.0, 2.0, 1.0), (10.0, 20.0, 30.0))
    assert plain.ras((1, 2, 3)) == (-13.0, -24.0, 33.0)
    assert GRID.ras((0, 0, 0)) == pytest.approx((-10.0, 40.0, 25.0))


# The command.


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return package(tmp_path_factory.mktemp("model") / "model")


def package(path: Path, channels: int = 1, extra: dict[str, bytes] | None = None) -> Path:
    config = load_config("general", "extended", {"data": {"patch_size": [8, 16, 16], "spacing_mm": list(SPACING)}})
    structures = structures_of({1: "organ"})
    torch.manual_seed(0)
    save_package(
        path,
        tensors=package_tensors(build_networks(config, channels, structures).state_dict(), None),
        config=package_config(config, "supervised", channels, structures),
        labels={1: {"name": "organ"}},
        training_rows=[],
        card="A model for tests.",
        extra=extra or {},
    )
    return path


@pytest.fixture(autouse=True)
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that sees what is bright: what it says is known to the voxel."""

    def predict(trained: Any, image: np.ndarray, *, progress: Any, **how: Any) -> np.ndarray:
        progress(1, -1)
        return np.clip(image[:1] * 1.2 - 0.1, 0.02, 0.98).astype(np.float32)

    monkeypatch.setattr(audited_case, "predict", predict)


WRONG = {"b_eroded", "d_bitten", "f_leaking", "h_empty"}
BITE, BLOB = ball((10, 14, 8), 18.0), ball((10, 4, 15), 14.0) & ~ORGAN


@pytest.fixture
def datalist(tmp_path: Path) -> Path:
    """Ten cases on an oblique grid; four labels are wrong, one file is rubbish."""
    labels = {
        "a": ORGAN, "b_eroded": shift_border(ORGAN, SPACING, -8.0), "c": ORGAN, "d_bitten": ORGAN & ~BITE,
        "e": ORGAN, "f_leaking": ORGAN | BLOB, "g": ORGAN, "h_empty": ORGAN & False, "i": ORGAN, "j_rubbish": ORGAN,
    }  # fmt: skip
    cases = []
    for n, (name, label) in enumerate(labels.items()):
        image = 100.0 * ORGAN + np.random.default_rng(n).normal(0, 3, GRID.size_dhw)
        file = write_image(tmp_path / "data" / f"{name}.nrrd", image.astype(np.float32), GRID)
        segments = [Segment(5, "Organ", (0.1, 0.2, 0.3))] if n % 2 else []
        target = tmp_path / "data" / f"{name}.{'seg.nrrd' if n % 2 else 'nii.gz'}"
        cases.append(Case(name, (file,), write_label(target, 5 * label.astype(np.uint8), GRID, segments)))
    path = save_datalist(DataList("d", {5: "Organ"}, tuple(cases[:6]), tuple(cases[6:])), tmp_path / "data" / "d.json")
    (tmp_path / "data" / "j_rubbish.seg.nrrd").write_bytes(b"NRRD0004\nrubbish")
    return path


def run(datalist: Path, model: Path, **more: Any) -> Audit:
    return audit(datalist, model=model, output=datalist.parents[1] / "audit", device="cpu", **more)


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_worst_come_first_and_say_where(datalist: Path, model: Path) -> None:
    before, seen = everything(datalist.parent), []
    done = run(datalist, model, listeners=[seen.append])
    assert everything(datalist.parent) == before
    assert {row.case for row in done.rows[:4]} == WRONG
    good = [row for row in done.rows if row.case not in WRONG and row.kind != "error"]
    assert len(good) == 5
    assert max(row.score for row in good) < 0.5 < min(row.score for row in done.rows[:4])
    assert [row.score for row in done.rows[:-1]] == sorted((row.score for row in done.rows[:-1]), reverse=True)
    by_case = {row.case: row for row in done.rows}
    kinds = {"b_eroded": "border shift", "d_bitten": "missing part", "f_leaking": "leak", "h_empty": "empty"}
    assert {name: by_case[name].kind for name in WRONG} == kinds
    for name, region in (("d_bitten", BITE & ORGAN), ("f_leaking", BLOB), ("h_empty", ORGAN)):
        lps = GRID.world(np.argwhere(region).mean(0))
        assert by_case[name].centroid_ras_mm == pytest.approx(lps * (-1, -1, 1), abs=6.0)
        assert by_case[name].volume_ml == pytest.approx(region.sum() * 0.064, rel=0.4)
    assert by_case["b_eroded"].border_shift_mm == pytest.approx(8.0, abs=1.5)
    assert (by_case["h_empty"].dice, by_case["a"].weight) == (0.0, None)

    error = done.rows[-1]
    assert (error.case, error.kind, error.score) == ("j_rubbish", "error", None)
    assert "j_rubbish" in error.error
    assert any(e["event"] == "warning" and e.get("case") == "j_rubbish" for e in seen)
    progress = [e for e in seen if e["event"] == "progress"]
    assert [e["done"] for e in progress] == sorted(e["done"] for e in progress)
    assert progress[-1]["total"] == 1000
    assert progress[-1]["seconds_left"] is not None
    assert (seen[-1]["event"], seen[-1]["rows"][0]["case"]) == ("finished", done.rows[0].case)


def test_proposals_lie_beside_the_audit_and_mend_what_is_wrong(datalist: Path, model: Path) -> None:
    done = run(datalist, model)
    for row in done.rows[:-1]:
        proposal, label = read_label(row.corrected), read_label(row.label)
        assert Path(row.corrected).parent == done.output / "corrected"
        assert same_geometry(proposal.geometry, GRID)
        assert [(s.value, s.name) for s in proposal.segments] == [(5, "Organ")]
        if label.segments:
            assert proposal.segments == label.segments
        before, after = (
            2 * ((a.array == 5) & ORGAN).sum() / ((a.array == 5).sum() + ORGAN.sum()) for a in (label, proposal)
        )
        assert after > 0.95
        assert after >= before - 0.02
        if row.case in WRONG:
            assert row.corrected_dice < 0.97
    assert done.rows[-1].corrected == ""


def test_the_files_say_the_same(datalist: Path, model: Path) -> None:
    done = run(datalist, model)
    assert sorted(path.name for path in done.output.iterdir()) == ["audit.csv", "audit.html", "audit.json", "corrected"]
    told = json.loads((done.output / "audit.json").read_text("utf-8"))
    assert told["rows"] == json.loads(json.dumps([asdict(row) for row in done.rows]))
    with (done.output / "audit.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [row.case for row in done.rows]
    assert [float(x) for x in rows[0]["centroid_ras_mm"].split()] == pytest.approx(
        done.rows[0].centroid_ras_mm, abs=0.01
    )
    assert (rows[-1]["score"], rows[-1]["kind"]) == ("", "error")


@pytest.mark.parametrize("package_name", ["jinja2", "matplotlib"])
def test_without_the_reports_packages_there_is_no_page(
    datalist: Path, model: Path, monkeypatch: pytest.MonkeyPatch, package_name: str
) -> None:
    monkeypatch.setitem(sys.modules, package_name, None)
    seen: list[dict[str, Any]] = []
    done = run(datalist, model, listeners=[seen.append])
    assert sorted(path.name for path in done.output.iterdir()) == ["audit.csv", "audit.json", "corrected"]
    assert [e["text"] for e in seen if e["event"] == "message" and "svldrl[report]" in e["text"]]


@pytest.mark.parametrize("same_cases", [True, False])
def test_a_trainings_weights_count_only_for_its_own_cases(datalist: Path, tmp_path: Path, same_cases: bool) -> None:
    names = [case.name if same_cases else f"other_{case.name}" for case in load_datalist(datalist).training]
    table = "case,weight\n" + "".join(f"{name},{0.0 if name in WRONG else 0.75}\n" for name in names)
    done = run(datalist, package(tmp_path / "m", extra={"reliability.csv": table.encode()}))
    weights = {row.case: row.weight for row in done.rows}
    assert weights["a"] == (0.75 if same_cases else None)
    assert weights["g"] is None  # not learned from
    assert any("trained on 6 of these 9 labels" in text for text in done.warnings) == same_cases
    assert {row.case for row in done.rows[:4]} == WRONG


def test_a_folder_in_use_is_left_alone_unless_overwriting_is_asked(datalist: Path, model: Path, tmp_path: Path) -> None:
    first = run(datalist, model)
    (first.output / "mine.txt").write_text("precious")
    before = everything(first.output)
    with pytest.raises(InputError, match="not empty"):
        run(datalist, model)
    assert everything(first.output) == before
    (first.output / "corrected" / "old.seg.nrrd").write_bytes(b"of an earlier data set")
    run(datalist, model, overwrite=True)
    assert (first.output / "mine.txt").read_text() == "precious"
    assert sorted(p.name for p in (first.output / "corrected").iterdir()) == sorted(
        f"{case.name}.seg.nrrd" for case in load_datalist(datalist).cases if case.name != "j_rubbish"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit", "data"]


def test_accepted_proposals_are_not_overwritten_by_the_next_audit(datalist: Path, model: Path) -> None:
    """Who lists proposals as labels and audits again into the same folder would lose them."""
    first = run(datalist, model)
    accepted = Case("a", load_datalist(datalist).training[0].images, first.output / "corrected" / "a.seg.nrrd")
    again = save_datalist(DataList("d", {5: "Organ"}, (accepted,), ()), datalist.with_name("again.json"))
    before = everything(first.output)
    with pytest.raises(InputError, match=r"a\.seg\.nrrd lies in it"):
        run(again, model, overwrite=True)
    assert everything(first.output) == before


def test_a_cancel_leaves_nothing(datalist: Path, model: Path, tmp_path: Path) -> None:
    control, seen = JobControl(), []
    stop = [seen.append, lambda e: control.cancel("enough") if e["event"] == "progress" and e["done"] > 300 else None]
    with pytest.raises(Cancelled, match="enough"):
        run(datalist, model, listeners=stop, control=control)
    assert seen[-1]["event"] == "cancelled"
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_what_cannot_be_audited_at_all_is_an_error(datalist: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 2"):
        run(datalist, package(tmp_path / "two", channels=2))
    renamed = json.loads(datalist.read_text())
    renamed["labels"] = {"5": "liver", "6": "spleen"}
    datalist.with_name("other.json").write_text(json.dumps(renamed))
    with pytest.raises(InputError, match="none of the model's structures"):
        run(datalist.with_name("other.json"), tmp_path / "two")
    with pytest.raises(InputError, match="nowhere"):
        run(datalist, tmp_path / "nowhere")
    assert not (tmp_path / "audit").exists()


def test_of_a_structure_that_nobody_has_drawn_nothing_is_said() -> None:
    looks = [
        Look(Case(f"c{n}", (Path("i.nrrd"),), Path("l.nrrd")), dict(enumerate(pair)), {0: 1.0, 1: 1.0}, GRID)
        for n, pair in enumerate([(USUAL, USUAL)] * 5 + [(USUAL, NOT_KNOWN)])
    ]
    rows, _ = audit_rows(looks, ("liver", "spleen"), {}, Path("corrected"))
    assert ("c5", "spleen") not in {(row.case, row.structure) for row in rows}
    assert ("c5", "liver") in {(row.case, row.structure) for row in rows}


def test_of_several_raters_the_audit_names_the_one_who_stands_apart(datalist: Path, model: Path) -> None:
    content, folder = json.loads(datalist.read_text()), datalist.parent
    first = content["training"][0]
    for name, label in (("ben", ORGAN), ("cleo", shift_border(ORGAN, SPACING, -8.0))):
        write_label(folder / f"{name}.nii.gz", 5 * label.astype(np.uint8), GRID, [])
    first["label"], first["raters"] = [first["label"], "ben.nii.gz", "cleo.nii.gz"], ["anna", "ben", "cleo"]
    (folder / "rated.json").write_text(json.dumps(content))
    done = run(folder / "rated.json", model)
    told = {row.case: row.rater for row in done.rows}
    assert told["a"].startswith("cleo agrees on organ with a Dice of 0.")
    assert told["a"].endswith("mm inside the consensus")
    assert {text for case, text in told.items() if case != "a"} == {""}
    with pytest.raises(InputError, match="cleo"):
        audit(folder / "rated.json", model=model, output=folder / "cleo.nii.gz" / "audit", device="cpu")


def test_it_asks_whether_a_structure_is_not_drawn_in_a_case(tmp_path: Path) -> None:
    """Most have it, the prediction shows it, and the label has another: offered, and nothing is applied."""
    nothing = replace(USUAL, empty=True, label_voxels=0, found_voxels=0, regions={})
    seen = replace(nothing, found_voxels=USUAL.label_voxels, regions={"empty": Region((1.0, 2.0, 3.0), 900)})
    little = replace(seen, found_voxels=USUAL.label_voxels // 4)
    pairs = [(USUAL, USUAL)] * 6 + [(USUAL, seen), (USUAL, little), (USUAL, nothing), (seen, seen)]
    cases = [Case(f"c{n}", (tmp_path / "i.nrrd",), tmp_path / "l.nrrd") for n in range(len(pairs))]
    looks = [Look(case, dict(enumerate(pair)), {0: 1.0, 1: 1.0}, GRID) for case, pair in zip(cases, pairs)]
    rows, _ = audit_rows(looks, ("liver", "spleen"), {}, Path("corrected"))
    assert [(row.case, row.structure) for row in rows if row.question] == [("c6", "spleen")]
    listed = DataList("some", {1: "Liver", 2: "Spleen"}, tuple(cases[:8]), tuple(cases[8:]))
    offered = offered_list(listed, rows)
    assert offered is not None
    assert {case.name: case.missing for case in offered.cases if case.missing} == {"c6": ("Spleen",)}
    assert offered_list(listed, rows[:6]) is None
    assert told_of_not_drawn(rows).startswith("Not drawn here? spleen in c6: most cases have it")
    vouched = [replace(look, case=replace(look.case, trusted=True)) for look in looks]
    assert not any(row.question for row in audit_rows(vouched, ("liver", "spleen"), {}, Path("corrected"))[0])
