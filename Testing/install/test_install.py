"""The extension as Slicer's build system sees it: configured, built and installed with stand-in macros.

The stand-ins do what Slicer's do with the lists in CMakeLists.txt: what is not listed is not installed.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = "lib/Slicer-5.12/qt-scripted-modules"

SLICER_CONFIG = """
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
"""
USE_SLICER = """
function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${MODULE_NAME}: unknown arguments ${MODULE_UNPARSED_ARGUMENTS}")
  endif()
  set(place "@INSTALLED@")
  if(MODULE_WITH_SUBDIR)
    get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(place "${place}/${folder}")
  endif()
  foreach(file IN LISTS MODULE_SCRIPTS MODULE_RESOURCES)
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}" OR IS_ABSOLUTE "${file}" OR file MATCHES "\\\\.\\\\.")
      message(FATAL_ERROR "${MODULE_NAME}: there is no ${file}")
    endif()
    get_filename_component(folder "${file}" DIRECTORY)
    install(FILES "${file}" DESTINATION "${place}/${folder}")
  endforeach()
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(TEST "" "SCRIPT" "" ${ARGN})
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${TEST_SCRIPT}")
    message(FATAL_ERROR "there is no test ${TEST_SCRIPT}")
  endif()
endfunction()
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripted modules after configure, build and install, in a fresh build tree."""
    folder = tmp_path_factory.mktemp("installed with spaces")
    slicer = folder / "slicer"
    slicer.mkdir()
    (slicer / "SlicerConfig.cmake").write_text(SLICER_CONFIG)
    (slicer / "UseSlicer.cmake").write_text(USE_SLICER.replace("@INSTALLED@", INSTALLED))
    (slicer / "Nothing.cmake").write_text("")
    build, prefix = folder / "build", folder / "prefix"
    run(
        cmake(),
        "-S",
        ROOT,
        "-B",
        build,
        f"-DSlicer_DIR={slicer}",
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
        "-DBUILD_TESTING=ON",
    )
    run(cmake(), "--build", build)
    run(cmake(), "--install", build)
    return prefix / INSTALLED


def cmake() -> str:
    """CMake of the system, or of the package `cmake` in this environment."""
    found = shutil.which("cmake") or shutil.which("cmake", path=str(Path(sys.executable).parent))
    assert found, "CMake is needed: install it, or `pip install cmake`"
    return found


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def in_clean_python(code: str, installed: Path) -> str:
    """Run code in a new interpreter that finds the installed place first, in a folder away from the sources."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(installed)
    return run(sys.executable, "-c", code, cwd=installed.parent, env=environment)


def tree(folder: Path, *patterns: str) -> set[str]:
    files = (path for pattern in patterns for path in folder.glob(pattern))
    return {f.relative_to(folder).as_posix() for f in files if f.is_file() and "__pycache__" not in f.parts}


def test_everything_of_the_core_is_installed(installed: Path) -> None:
    source = tree(ROOT / "SVLDRLCore", "**/*") - {"CMakeLists.txt"}
    assert tree(installed / "SVLDRLCore", "**/*") == source


def test_everything_of_the_module_is_installed(installed: Path) -> None:
    source = tree(ROOT / "SVLDRLSegmentation", "**/*") - {"CMakeLists.txt", "README.md"}
    wanted = {
        "SVLDRLSegmentation.py", "SVLDRLSegmentationLib/**/*", "SVLDRLSegmentEditorEffects/**/*", "Resources/**/*",
    }  # fmt: skip
    assert tree(installed, *wanted) == source
    assert "Resources/Icons/SVLDRLSegmentation.png" in source


def test_nothing_else_is_installed(installed: Path) -> None:
    """A top-level package called Testing, say, would collide with other extensions'."""
    assert {path.name for path in installed.iterdir()} == {
        "Resources", "SVLDRLCore", "SVLDRLSegmentation.py", "SVLDRLSegmentationLib", "SVLDRLSegmentEditorEffects",
    }  # fmt: skip


def test_all_of_it_compiles(installed: Path) -> None:
    """Slicer's build goes on after a syntax error."""
    assert compileall.compile_dir(installed, quiet=1, force=True)


def test_the_core_imports_from_the_installed_place(installed: Path) -> None:
    code = "import SVLDRLCore, SVLDRLCore.config.settings as c; print(SVLDRLCore.__file__, len(c.preset_names()))"
    path, presets = in_clean_python(code, installed).rsplit(maxsplit=1)
    assert Path(path).resolve() == (installed / "SVLDRLCore" / "__init__.py").resolve()
    assert int(presets) == len(list((ROOT / "SVLDRLCore" / "config" / "presets").glob("*.json")))


def test_the_worker_runs_from_the_installed_place(installed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = (sys.executable, "-m", "SVLDRLCore", "settings", "--preset", "demo")
    assert '"preset": "demo"' in run(*command, cwd=installed.parent, env=environment)


def test_the_panels_files_are_xml_that_names_known_parameters(installed: Path) -> None:
    """A mistyped SlicerParameterName is found here, without Slicer."""
    known = set(
        re.findall(r"^    (\w+): ", (installed / "SVLDRLSegmentationLib/scene/Parameters.py").read_text(), re.MULTILINE)
    )
    for path in (installed / "Resources/UI").glob("*.ui"):
        text = path.read_text(encoding="utf-8")
        named = re.findall(r'name="SlicerParameterName".*?<string>(\w+)</string>', text, re.DOTALL)
        assert set(named) <= known, path.name
