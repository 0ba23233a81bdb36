"""The house rules that a program can check: which room may import which, and what may not be imported at all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "SVLDRLCore"
SLICER_SIDE = ROOT / "SVLDRLSegmentation"

# A room imports only rooms before it. The first stands for all modules at the top but those named here.
ROOMS = (
    "top",
    "config",
    "masks",
    "files",
    "data",
    "networks",
    "learning",
    "inference",
    "models",
    "svl_drl",
    "pixel_drl",
    "baselines",
    "label_quality",
    "mask_refinement",
    "universal_refiner",
    "evaluation",
    "adaptation",
    "training",
    "benchmarking",
    "jobs",
    "commands",
    "cli",
    "warm_worker",
    "__main__",
    "__init__",  # the public API may name everything, lazily
)
MOST_LINES = 400


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path, root: Path = ROOT) -> str:
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    return name.removesuffix(".__init__")


def room(module: str) -> str:
    parts = module.split(".")
    if len(parts) == 1:
        return "__init__"
    return parts[1] if parts[1] in ROOMS else "top"


def imports(path: Path, root: Path = ROOT, only_at_import: bool = False) -> set[str]:
    """Full names of what a file imports, anywhere in it or only while it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package.pop()
    found: set[str] = set()
    nodes = list(ast.walk(tree))
    if only_at_import:
        late = {id(node) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        late |= {id(node) for node in nodes if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)}
        nodes = reached(tree, late)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import module` imports the module
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def reached(node: ast.AST, stop_at: set[int]) -> list[ast.AST]:
    children = [child for child in ast.iter_child_nodes(node) if id(child) not in stop_at]
    return [node, *(below for child in children for below in reached(child, stop_at))]


def our_imports(path: Path, modules: set[str], only_at_import: bool = False) -> set[str]:
    return {name for name in imports(path, only_at_import=only_at_import) if name in modules}


def core_modules() -> dict[str, Path]:
    return {module_name(path): path for path in sources(CORE)}


def test_imports_point_one_way_through_the_rooms() -> None:
    modules = core_modules()
    wrong = [
        f"{module} imports {name}"
        for module, path in modules.items()
        for name in our_imports(path, set(modules))
        # the bare package is imported on the way to any of its modules
        if "." in name and ROOMS.index(room(name)) > ROOMS.index(room(module))
    ]
    assert wrong == []


def test_no_two_modules_import_each_other() -> None:
    modules = core_modules()
    edges = {module: our_imports(path, set(modules), True) - {module} for module, path in modules.items()}
    while free := [module for module, needs in edges.items() if not needs & set(edges)]:
        for module in free:
            del edges[module]
    assert edges == {}, "these import each other in a circle"


NAMES_OF_MANY = {"main", "define", "run"}
"""A program's start; what each command has."""
MODULES_OF_MANY = {"settings", "method", "episode", "training"}
"""Printed by a command, kept by its room; a method, or its agents' episode, in the room of each."""


def test_no_two_public_things_have_one_name() -> None:
    """But a command, the job that it starts and that job's function."""
    commands = {path.stem for path in sources(CORE / "commands")}
    functions: dict[str, list[str]] = {}
    modules: dict[str, list[str]] = {}
    for path in sources(CORE):
        modules.setdefault(path.stem, []).append(module_name(path))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                functions.setdefault(node.name, []).append(module_name(path))
    named_twice = {name: where for name, where in functions.items() if len(where) > 1 and name not in NAMES_OF_MANY}
    assert named_twice == {}
    allowed = commands | MODULES_OF_MANY | {"__init__", "__main__"}
    assert {name: where for name, where in modules.items() if len(where) > 1 and name not in allowed} == {}


WAY_OF_A_MASK = (
    "jobs/refine", "jobs/refine_by_model", "files/volumes", "data/resampling", "mask_refinement/segments",
    "mask_refinement/editing", "masks/alignment", "inference/sliding_window", "mask_refinement/episode",
    "networks/mask_agent_network",
)  # fmt: skip
WAY_OF_A_LABEL = (
    "files/datalist", "training/training_data", "data/cases", "label_quality/features", "label_quality/weights",
    "label_quality/review",
)  # fmt: skip


@pytest.mark.parametrize(("way", "most"), [(WAY_OF_A_MASK, 10), (WAY_OF_A_LABEL, 6)], ids=["mask", "label"])
def test_the_ways_that_the_guide_draws_are_there(way: tuple[str, ...], most: int) -> None:
    """Each file of the way is used by another of it, and the guide lists them in this order."""
    modules = core_modules()
    names = {f"SVLDRLCore.{place.replace('/', '.')}" for place in way}
    assert len(way) <= most
    assert names <= modules.keys()
    used = {name for each in names for name in our_imports(modules[each], set(modules)) & (names - {each})}
    users = {each for each in names if our_imports(modules[each], set(modules)) & (names - {each})}
    assert used | users == names
    guide = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    places = [guide.find(f"`{place}.py`") for place in way]
    assert -1 not in places
    assert places == sorted(places)


def top_names(path: Path, root: Path = ROOT, only_at_import: bool = False) -> set[str]:
    return {name.split(".")[0] for name in imports(path, root, only_at_import)}


def test_the_core_never_imports_slicer_or_qt() -> None:
    forbidden = {"slicer", "qt", "ctk", "vtk", "mrml", "vtkmodules", "PySide6", "PyQt5"}
    wrong = {module: top_names(path) & forbidden for module, path in core_modules().items()}
    assert {module: names for module, names in wrong.items() if names} == {}


def test_what_runs_before_torch_is_there_does_not_import_it() -> None:
    modules = core_modules()
    early = [module for module in modules if room(module) in ("top", "__init__", "commands", "cli")]
    seen = set(early)
    while early:
        module = early.pop()
        assert not top_names(modules[module], only_at_import=True) & {"torch", "monai"}, f"{module} imports torch"
        needs = our_imports(modules[module], set(modules), True) - seen
        seen |= needs
        early += needs


def test_the_slicer_side_never_imports_torch_or_monai() -> None:
    wrong = [str(path) for path in sources(SLICER_SIDE) if top_names(path) & {"torch", "monai"}]
    assert wrong == []


def test_every_folder_of_sources_is_a_package() -> None:
    folders = {path.parent for path in sources(CORE)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", sources(CORE) + sources(SLICER_SIDE), ids=lambda path: module_name(path))
def test_a_module_is_about_one_thing(path: Path) -> None:
    assert path.name not in ("utils.py", "util.py", "helpers.py", "misc.py")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


# The checks above would pass on anything if they saw nothing: show that they see.


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_imports_are_seen_in_all_their_forms(tmp_path: Path) -> None:
    text = (
        "import a.b as c\nfrom d import e\nfrom . import f\nfrom ..g import h\n"
        "def late():\n    import torch\n"
        "class Early:\n    import i\n"
        "if TYPE_CHECKING:\n    import monai\n"
    )
    path = write(tmp_path / "SVLDRLCore" / "data" / "x.py", text)
    always = {"a.b", "d", "d.e", "SVLDRLCore.data", "SVLDRLCore.data.f", "SVLDRLCore.g", "SVLDRLCore.g.h", "i"}
    assert imports(path, tmp_path) == {*always, "torch", "monai"}
    assert imports(path, tmp_path, only_at_import=True) == always


def test_rooms_are_recognised() -> None:
    assert room("SVLDRLCore") == "__init__"
    assert room("SVLDRLCore.events") == "top"
    assert room("SVLDRLCore.data.noise") == "data"
    assert room("SVLDRLCore.cli") == "cli"
    assert len(core_modules()) > 10
