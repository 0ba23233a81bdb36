"""No file that somebody can give us runs code, fills the disk, or writes where it should not."""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from SVLDRLCore.errors import InputError
from SVLDRLCore.models import package_files
from SVLDRLCore.models.package import load_package, save_package, zip_package

SOURCES = [Path(__file__).parents[2] / name for name in ("SVLDRLCore", "SVLDRLSegmentation")]

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_BUILTINS = {"eval", "exec", "compile", "__import__"}
UNSAFE_CALLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "torch.jit.script", "torch.jit.load", "torch.export.load", "yaml.load", "yaml.unsafe_load",
}  # fmt: skip
UNSAFE_UNPACKING = {"extractall", "unpack_archive"}


def dangers(source: str) -> list[str]:
    """What in a program could run or unpack somebody else's data, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [(node, f"imports {a.name}") for a in names if a.name.split(".")[0] in UNSAFE_MODULES]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNSAFE_MODULES:
                found.append((node, f"imports {module}"))
            case ast.Call():
                found += [(node, danger) for danger in call_dangers(node)]
            case ast.Constant(value=str(text)) if "_target_" in text:
                found.append((node, "names a class in data (_target_)"))
            case _:
                pass
    return [f"line {node.lineno}: {danger}" for node, danger in found]


def call_dangers(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    found = []
    if isinstance(call.func, ast.Name) and name in UNSAFE_BUILTINS:
        found.append(f"calls {name}")
    if name in UNSAFE_CALLS or last in UNSAFE_UNPACKING:
        found.append(f"calls {name}")
    if "shell" in options and not is_constant(options["shell"], False):
        found.append("starts a shell")
    if "allow_pickle" in options and not is_constant(options["allow_pickle"], False):
        found.append("lets NumPy unpickle")
    if name == "torch.load" and not is_constant(options.get("weights_only"), True):
        found.append("torch.load without weights_only=True")
    elif "weights_only" in options and not is_constant(options["weights_only"], True):
        found.append("weights_only is not True")
    return found


def is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_the_sources_hold_nothing_that_runs_data() -> None:
    files = [path for folder in SOURCES for path in folder.rglob("*.py") if "__pycache__" not in path.parts]
    assert len(files) > 10
    found = {str(path): dangers(path.read_text(encoding="utf-8")) for path in files}
    assert {path: told for path, told in found.items() if told} == {}


@pytest.mark.parametrize(
    "program",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "torch.load('x', weights_only=False)",
        "torch.load('x', weights_only=trusted)",
        "load(x, weights_only=False)",
        "eval('1')",
        "exec(text)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "np.load('x', allow_pickle=True)",
        "archive.extractall(folder)",
        "config['_target_']",
        "torch.jit.load('x')",
        "torch.export.load('x.pt2')",
    ],
)
def test_each_danger_is_seen(program: str) -> None:
    assert len(dangers(program)) == 1


@pytest.mark.parametrize(
    "program",
    ["network.eval()", "re.compile('a')", "torch.load('x', weights_only=True)", "subprocess.run(['ls'], shell=False)"],
)
def test_harmless_code_is_not_accused(program: str) -> None:
    assert dangers(program) == []


# Packages


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "model"
    save_package(
        folder,
        tensors={"weight": torch.arange(1000.0)},
        config={"preset": "demo"},
        labels={1: {"name": "ball"}},
        training_rows=[{"epoch": 1}],
        card="# Card\n",
    )
    return folder


def seal(folder: Path) -> None:
    """Make the hashes right again: an attacker can do that, too."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def add(name: str, data: bytes = b"x", mode: int = 0, **options: int) -> Callable[[zipfile.ZipFile], None]:
    def apply(archive: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, data, **options)

    return apply


def replace_zip(model: Path, target: Path, change: Callable[[zipfile.ZipFile], None], leave_out: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in model.iterdir():
            if path.name != leave_out:
                archive.write(path, path.name)
        change(archive)
    return target


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "leave_out", "why"),
    [
        (add("../../outside.txt"), "", "is no file of a model package"),
        (add("/tmp/outside.txt"), "", "is no file of a model package"),
        (add("..\\outside.txt"), "", "is no file of a model package"),
        (add("C:outside.txt"), "", "is no file of a model package"),
        (add("sub/a.csv"), "", "is no file of a model package"),
        (add("run.py"), "", "is no file of a model package"),
        (add("weights.pkl"), "", "is no file of a model package"),
        (add("page.html"), "", "is no file of a model package"),
        (add(".hidden.csv"), "", "is no file of a model package"),
        (add("a" * 300 + ".csv"), "", "is no file of a model package"),
        (add("config.json"), "", "is there twice"),
        (add("CONFIG.JSON"), "", "is no file of a model package"),
        (add("model_card.md"), "", "is there twice"),
        (add("Model_Card.md"), "", "is there twice"),
        (add("a.csv", b"/etc/hostname", stat.S_IFLNK | 0o777), "", "is a link or a folder"),
        (add("config.json", b"/etc/hostname", stat.S_IFLNK | 0o777), "config.json", "is a link or a folder"),
        (add("pipe.csv", b"", stat.S_IFIFO | 0o644), "", "is a link or a folder"),
        (add("sub/"), "", "is a link or a folder"),
        (add("zeros.csv", bytes(8 << 20), compress_type=zipfile.ZIP_DEFLATED), "", "times its size"),
        (add("large.csv", bytes(17 << 20), compress_type=zipfile.ZIP_STORED), "", "bytes, more than"),
        (add("lzma.csv", compress_type=zipfile.ZIP_LZMA), "", "packed in a way"),
        (add("unlisted.csv"), "", "not listed: unlisted.csv"),
        (add("notes.txt"), "training.csv", "lacks training.csv"),
    ],
)
def test_hostile_zips_are_refused_and_write_nothing(
    model: Path, tmp_path: Path, change: Callable[[zipfile.ZipFile], None], leave_out: str, why: str
) -> None:
    path = replace_zip(model, tmp_path / "in" / "model.zip", change, leave_out)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=why) as refused:
        load_package(path)
    assert refused.value.what == str(path)
    assert refused.value.do
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_that_lies_about_a_size_is_refused(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    zip_package(model, path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("MODEL_CARD.md").file_size
    central = data.index(b"MODEL_CARD.md", data.index(b"PK\x01\x02")) - 46
    assert int.from_bytes(data[central + 24 : central + 28], "little") == size
    data[central + 24 : central + 28] = (size - 2).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be used as a model"):
        load_package(path)


def test_too_many_files_are_refused(model: Path) -> None:
    for number in range(package_files.MAX_FILES):
        (model / f"table_{number}.csv").write_bytes(b"")
    with pytest.raises(InputError, match="more than 64"):
        load_package(model)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_torn_zips_are_refused(model: Path, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "torn.zip"
    zip_package(model, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match="no sound zip file"):
        load_package(path)


def test_no_flipped_bit_in_a_zip_gives_another_model(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    zip_package(model, path)
    data = path.read_bytes()
    refused = 0
    for position in range(0, len(data), 37):
        damaged = bytearray(data)
        damaged[position] ^= 0x04
        path.write_bytes(damaged)
        try:
            package = load_package(path)
            weight = package.tensors()["weight"]
        except InputError:
            refused += 1
        else:  # dates and flags that mean nothing here
            assert package.config == {"preset": "demo"}
            assert torch.equal(weight, torch.arange(1000.0))
    assert refused > 0.7 * len(range(0, len(data), 37))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "labels.json", "training.csv", "MODEL_CARD.md"])
def test_a_changed_or_missing_file_in_a_folder_is_refused_by_name(model: Path, name: str) -> None:
    data = bytearray((model / name).read_bytes())
    data[len(data) // 2] ^= 1
    (model / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name} was changed or damaged"):
        load_package(model)
    (model / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        load_package(model)


def test_links_and_folders_inside_a_folder_are_refused(model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("private")
    (model / "notes.txt").symlink_to(secret)
    seal(model)
    with pytest.raises(InputError, match=r"'notes.txt' is a link or a folder"):
        load_package(model)
    (model / "notes.txt").unlink()
    (model / "notes.txt").mkdir()
    with pytest.raises(InputError, match=r"'notes.txt' is a link or a folder"):
        load_package(model)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", '{"a": NaN}'),
        ("config.json", "[1]"),
        ("config.json", "[" * 200_000),
        ("config.json", "\udcff"),
        ("labels.json", "{}"),
        ("labels.json", '{"../x": {"name": "a"}}'),
        ("labels.json", '{"1": {"name": "a"}, "01": {"name": "b"}}'),
        ("labels.json", '{"1": {"name": 5}}'),
        ("labels.json", '{"1": {"name": "a", "color": [NaN, 0, 0]}}'),
        ("training.csv", "epoch\n1,2\n"),
    ],
)
def test_contents_that_are_not_as_they_should_be_are_refused(model: Path, name: str, text: str) -> None:
    (model / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    seal(model)
    with pytest.raises(InputError, match="not as it should be"):
        load_package(model)


def test_damaged_or_non_finite_weights_are_refused(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\xff" * 64)
    seal(model)
    with pytest.raises(InputError, match="safetensors is damaged"):
        load_package(model).tensors()
    from safetensors.torch import save_file

    save_file({"weight": torch.tensor([1.0, float("inf")])}, model / "model.safetensors")
    seal(model)
    with pytest.raises(InputError, match="'weight' are not finite"):
        load_package(model).tensors()


def test_a_pickle_in_place_of_the_weights_is_never_run(model: Path, tmp_path: Path) -> None:
    witness = tmp_path / "run"

    class Attack:
        def __reduce__(self) -> tuple:
            return (open, (str(witness), "w"))

    torch.save(Attack(), model / "model.safetensors")
    seal(model)
    with pytest.raises(InputError, match="damaged"):
        load_package(model).tensors()
    assert not witness.exists()


def test_what_is_no_package_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model"):
        load_package(tmp_path / "missing")
    (tmp_path / "image.nii").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="no sound zip"):
        load_package(tmp_path / "image.nii")
    os.mkdir(tmp_path / "empty")
    with pytest.raises(InputError, match=r"lacks model\.safetensors"):
        load_package(tmp_path / "empty")
