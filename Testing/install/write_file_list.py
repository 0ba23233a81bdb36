"""Write the file lists of SVLDRLCore/CMakeLists.txt anew, after a file has come or gone.

python Testing/install/write_file_list.py
"""

from __future__ import annotations

import re
from pathlib import Path

CORE = Path(__file__).resolve().parents[2] / "SVLDRLCore"


def core_files(folder: Path = CORE) -> tuple[list[str], list[str]]:
    """Python files and all others of the core, sorted, relative to its folder."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    files = [path for path in found if path.name != "CMakeLists.txt"]
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    return [n for n in names if n.endswith(".py")], [n for n in names if not n.endswith(".py")]


def with_lists(text: str, scripts: list[str], resources: list[str]) -> str:
    """The CMake text with both lists replaced."""
    lists = ["  SCRIPTS", *(f"    {n}" for n in scripts), "  RESOURCES", *(f"    {n}" for n in resources)]
    return re.sub(r"  SCRIPTS\n.*?(?=  WITH_SUBDIR)", "\n".join(lists) + "\n", text, flags=re.DOTALL)


if __name__ == "__main__":
    target = CORE / "CMakeLists.txt"
    target.write_text(with_lists(target.read_text("utf-8"), *core_files()), "utf-8")
