"""The settings of Sphinx; `scripts/docs` builds the site."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for docs._ext

project = "kgtool"
version = importlib.metadata.version("kgtool")
extensions = ["myst_parser", "sphinx_copybutton", "docs._ext.pages"]
exclude_patterns = ["_ext", "_templates"]
templates_path = ["_templates"]
highlight_language = "text"  # of indented blocks
smartquotes = False
python_maximum_signature_line_length = 80

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = f"kgtool {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "source_repository": "https://github.com/kgtool/kgtool/",
    "source_branch": "main",
    "source_directory": "docs/",
}
