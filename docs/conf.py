"""How Sphinx makes the site, `make site`, from README.md and the notebooks as they are stored: nothing is run."""

import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

from tools import live

project = "Variational autoencoders"
language = "en"
extensions = ["myst_nb", "sphinx-mathjax-offline"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/*.md", "notebooks/*.ipynb"]
exclude_patterns = [".*"]  # or Sphinx would look through the whole environment
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"

mathjax3_config = {"chtml": {"scale": 0.9}}  # the letters of formulas as large as those around them
html_theme = "sphinx_book_theme"
html_theme_options = {"home_page_in_toc": True, "navbar_persistent": [], "footer_content_items": []}
html_context = {"default_mode": "auto"}  # dark where the reader's system is
html_title = project
html_favicon = "icon.svg"
html_static_path = ["style.css", "live"]
html_css_files = ["style.css", "live.css"]
html_js_files = ["live.js"]
html_show_copyright = False
html_use_index = False

CONTENTS = """
```{toctree}
:hidden:
:glob:

notebooks/*
docs/*
CONTRIBUTING
```
"""


def add_contents(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make the notebooks, in order, the pages that follow the README."""
    if docname == root_doc:
        source[0] += CONTENTS


def repair(app: Sphinx, document: nodes.document) -> None:
    """Replace what is right on GitHub and in Jupyter, but not in the site."""
    for picture in list(document.findall(nodes.image)):
        section = picture
        while not isinstance(section, nodes.section):
            section = section.parent
        picture.setdefault("alt", f"Figure in the section “{section[0].astext()}”")
        if "://" in picture["uri"]:  # Colab's badge: the page would ask another machine for it
            picture.parent["classes"] += ["button"]
            picture.replace_self(nodes.Text(picture["alt"]))
    for cell in document.findall(nodes.container):
        for name in [tag.removeprefix("tag_live:") for tag in cell["classes"] if tag.startswith("tag_live:")]:
            cell += nodes.raw("", live.html(name), format="html")
    for equation in document.findall(nodes.math_block):  # Sphinx would put one of several lines where \tag is forbidden
        equation["no-wrap"] = True
        equation[:] = [nodes.Text(rf"\[{equation.astext()}\]")]


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Give the home page also the name that a web server looks for, and the animation that it names in HTML."""
    if not error:
        shutil.copy(Path(app.outdir) / f"{root_doc}.html", Path(app.outdir) / "index.html")
        (Path(app.outdir) / "img").mkdir(exist_ok=True)
        for file in Path(app.srcdir).glob("img/gathering.*"):
            shutil.copy(file, Path(app.outdir) / "img")


ICON = re.compile(
    r'"?([\w-]+)"?:\[\d+,\d+,(\[[^\]]*\]),"\w+",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?'
)  # in Font Awesome's file


def slim(app: Sphinx, error: Exception | None) -> None:
    """Remove what no page asks for: MathJax's other forms, maps for debugging, and 2,100 of Font Awesome's icons."""
    if error:
        return
    static = Path(app.outdir) / "_static"
    needed = re.compile(r"mathjax/(tex-chtml\.js|output/chtml/fonts/|input/tex/extensions/|LICENSE)")
    for file in [path for path in static.rglob("*") if path.is_file()]:
        name = file.relative_to(static).as_posix()
        if file.suffix == ".map" or (name.startswith("mathjax/") and not needed.match(name)):
            file.unlink()
    icons, used = static / "scripts" / "fontawesome.js", set()
    for file in [*Path(app.outdir).rglob("*.html"), *static.glob("scripts/*.js")]:
        if file != icons:
            used |= set(re.findall(r"\bfa-([a-z-]+)", file.read_text(encoding="utf-8")))

    def kept(icon: re.Match) -> str:
        return icon[0] if used & {icon[1], *re.findall(r'"([\w-]+)"', icon[2])} else ""

    icons.write_text(ICON.sub(kept, icons.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Tell Sphinx when to call these functions."""
    app.connect("source-read", add_contents)
    app.connect("doctree-read", repair, priority=0)  # before Sphinx collects the pictures
    app.connect("build-finished", add_index)
    app.connect("build-finished", slim)
