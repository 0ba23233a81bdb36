"""A new method is one file and one line in the registry: it is then trained, packaged, told of in help and compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from SVLDRLCore.benchmarking.benchmark_settings import read_settings
from SVLDRLCore.cli import main
from SVLDRLCore.data.phantoms import write_phantom_dataset
from SVLDRLCore.learning.method_words import MethodWords
from SVLDRLCore.models.package import load_package
from SVLDRLCore.training.registry import METHODS, Listed, make_method, method_named

FILE = '''
"""Bootstrapping: the label is mixed with what the moving average predicts."""

from dataclasses import dataclass

from SVLDRLCore.config.building import number
from SVLDRLCore.learning.method import StepResult
from SVLDRLCore.learning.segmentation_loss import probabilities_of
from SVLDRLCore.learning.segmentation_method import SegmentationMethod


@dataclass(frozen=True)
class BootstrappingSettings:
    label_share: float = number(0.8, 0, 1)


class Bootstrapping(SegmentationMethod):
    own_settings = BootstrappingSettings

    def __init__(self, given):
        super().__init__(given)
        self.settings = given.settings(BootstrappingSettings)

    def training_step(self, batch, stage, progress):
        if stage == "warm_up":
            return super().training_step(batch, stage, progress)
        p = probabilities_of(self.network(batch.image), self.nested)
        taught = probabilities_of(self.predictor(batch.image), self.nested).detach()
        share = self.settings.label_share
        loss = (p - share * batch.target - (1 - share) * taught).square().mean()
        return StepResult(loss, {"label_share": share})

    def warnings(self, rows):
        return [f"Bootstrapping saw {len(rows)} rows."]
'''
WORDS = MethodWords("bootstrapping", "Labels are mixed with predictions.", "Reed 2015")
TINY = [
    "data.patch_size=[8,16,16]", "data.spacing_mm=[4,4,4]", "network.levels=3", "train.steps=4", "train.batch_size=1",
    "train.steps_per_epoch=2", "train.device=cpu", "train.threads=1",
]  # fmt: skip


@pytest.fixture
def bootstrapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the method above."""
    (tmp_path / "methods_of_ours").mkdir()
    (tmp_path / "methods_of_ours" / "bootstrapping_method.py").write_text(FILE)
    monkeypatch.syspath_prepend(tmp_path / "methods_of_ours")
    monkeypatch.setitem(METHODS, "bootstrapping", Listed(WORDS, "bootstrapping_method:Bootstrapping"))
    return "bootstrapping"


def test_one_file_and_one_line_make_a_method(bootstrapping: str, tmp_path: Path, capsys) -> None:
    write_phantom_dataset(tmp_path / "data", 3, 1, size_dhw=(10, 20, 20), spacing_dhw=(4.0, 4.0, 4.0))
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "bootstrapping (Reed 2015)" in " ".join(capsys.readouterr().out.split())

    command = ["train", str(tmp_path / "data" / "datalist.json"), "--output", str(tmp_path / "run")]
    command += ["--method", bootstrapping, "--set", *TINY]
    assert main([*command, "method_settings.label_shard=0.5"]) == 2
    assert "method_settings.label_shard" in capsys.readouterr().err
    assert main([*command, "method_settings.label_share=0.5"]) == 0
    package = load_package(tmp_path / "run" / "model")
    assert package.config["method"] == bootstrapping
    assert package.config["method_settings"] == {"label_share": 0.5}
    assert [row["stage"] for row in package.training] == ["warm_up", "robust", "robust"]
    assert package.training[-1]["label_share"] == 0.5
    assert "Bootstrapping (Reed 2015)." in package.card
    assert "Labels are mixed with predictions." in package.card
    assert "Bootstrapping saw 3 rows." in package.card
    assert "reliability.csv" not in package.extra

    capsys.readouterr()
    assert main(["info", str(tmp_path / "run")]) == 0
    assert "Method      bootstrapping\n" in capsys.readouterr().out


def test_a_benchmark_takes_it_as_a_row(bootstrapping: str, tmp_path: Path) -> None:
    tree = (
        '{"datalist": "-", "noises": {"mt": {"kind": "mt"}}, "reference": "ours", "baseline": "ours",'
        ' "rows": {"ours": {"method": "bootstrapping", "warm_up": "own"}}}'
    )
    (tmp_path / "config.json").write_text(tree)
    assert read_settings(tmp_path / "config.json").rows["ours"].method == bootstrapping


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_protocol(name: str) -> None:
    kind, words = method_named(name), METHODS[name].words
    for part in ("plan", "training_step", "review", "state", "restore", "warnings", "card_words"):
        assert callable(getattr(kind, part))
    assert words.title
    assert words.handling.endswith(".")


def test_what_is_learned_is_told_by_the_registry_alone() -> None:
    """Outside the registry nothing asks which method it is."""
    core = Path(make_method.__code__.co_filename).parents[1]
    asks = [
        f"{path.name}: {line.strip()}"
        for path in core.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        for name in METHODS
        if f'"{name}"' in line and line.strip().startswith(("if ", "elif ", "assert ", "while ", "match ", "case "))
    ]
    assert asks == []
