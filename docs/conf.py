"""The documentation's site: `make docs`, then docs/_build/index.html."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from SVLDRLCore import __version__  # noqa: E402

project = "SVL-DRL for 3D Slicer"
author = "SVL-DRL contributors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "from_the_program",
    "from_the_studies",
    "house",
]
exclude_patterns = ["_build", "_ext"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
suppress_warnings = ["misc.highlighting_failure"]

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_use_rtype = False
nitpick_ignore_regex = [("py:(class|exc)", ".*")]  # docstrings name types as readers do, not by their full path

html_theme = "furo"
html_title = f"SVL-DRL {version}"
html_static_path = []
html_logo = "../SVLDRLSegmentation/Resources/Icons/SVLDRLSegmentation.png"
html_theme_options = {
    "source_repository": "https://github.com/SVLDRL/SlicerSVLDRLSegmentation/",
    "source_branch": "main",
    "source_directory": "docs/",
}
