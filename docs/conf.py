"""Sphinx configuration."""

import re
from pathlib import Path

project = "gibbsian"
author = "The gibbsian developers"
copyright = "The gibbsian developers"
_source = Path(__file__).parent.parent / "src" / "gibbsian" / "__init__.py"
_found = re.search(r'__version__ = "([^"]+)"', _source.read_text())
release = _found.group(1) if _found else ""

extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "gibbsian"
nitpicky = True
