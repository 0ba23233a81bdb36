"""Write the file lists of SVLDRLCore and SVLDRLSegmentation into their CMakeLists.txt, after a file has come or gone.

python Testing/install/write_file_list.py
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_INSTALLED = ("CMakeLists.txt", "README.md")
CORE, MODULE = ROOT / "SVLDRLCore", ROOT / "SVLDRLSegmentation"


def files_of(folder: Path) -> tuple[list[str], list[str]]:
    """Python files and all others of a folder, sorted, relative to it."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = [path for path in found if path.name not in NOT_INSTALLED]
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    return [n for n in names if n.endswith(".py")], [n for n in names if not n.endswith(".py")]


def with_core_lists(text: str, scripts: list[str], resources: list[str]) -> str:
    """The core's CMake text with both lists replaced."""
    lists = ["  SCRIPTS", *(f"    {n}" for n in scripts), "  RESOURCES", *(f"    {n}" for n in resources)]
    return re.sub(r"  SCRIPTS\n.*?(?=  WITH_SUBDIR)", "\n".join(lists) + "\n", text, flags=re.DOTALL)


def with_module_lists(text: str, scripts: list[str], resources: list[str]) -> str:
    """The module's CMake text with both lists replaced."""
    for name, files in (("MODULE_PYTHON_SCRIPTS", scripts), ("MODULE_PYTHON_RESOURCES", resources)):
        listed = "".join(f"  {n}\n" for n in files)
        text = re.sub(rf"set\({name}\n.*?  \)", f"set({name}\n{listed}  )", text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    for folder, with_lists in ((CORE, with_core_lists), (MODULE, with_module_lists)):
        target = folder / "CMakeLists.txt"
        target.write_text(with_lists(target.read_text("utf-8"), *files_of(folder)), "utf-8")
