"""Make lecture slides out of the notebooks: `make slides`.

slides/ then holds a reveal.js deck for each notebook, lecture.html for a single lecture of 50 minutes, and index.html.
The folder is complete: the decks need no network. The notebooks' cell metadata set their contents; JupyterLab shows
them in its property inspector:

    "slideshow": {"slide_type": "slide"}     this cell begins a slide; a "fragment" goes on with it, "notes" are notes
    "slideshow": {…, "show": ["a phrase"]}   sentences, or pieces of code, with this phrase are shown on the slide
    "tags": ["lecture:07"]                   the cell belongs to slide 7 of the single lecture
    "tags": ["live:name"]                    the slide shows the figure that moves, and on paper that of the next cell

Of a text cell the slide shows headings, displayed equations, lists, tables, quotations, and the sentences in `show`;
its paragraphs become speaker notes. Of a code cell it shows the figures, or what is printed, and the pieces of code
(between blank lines) in `show`. A slide opens with its title and first block; each click reveals the next.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import libcst
import matplotlib
import nbformat
from libcst import matchers
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from traitlets.config import Config

from tools import live
from tools.notebook import CHAPTERS, COURSE, HIDDEN, write_whole

TEMPLATE = Path(__file__).parent / "template"
VENDOR = Path(__file__).parent / "vendor"  # from the npm package reveal.js 5.2.0
LECTURE = "Variational autoencoders in one lecture"
PLAN = (
    "From an autoencoder to new digits: formulation, the KL divergence step by step, the ELBO, the loss, the trick, "
    "training, implementation, learning curves, results."
)
LINES, COLUMNS = 15, 92  # of code that a class can read on one slide

BLOCKS = {  # how a block of Markdown begins
    "heading": r"#+ ",
    "equation": r"\$\$",
    "list": r"([*-]|\d+\.) ",
    "table": r"\|",
    "quote": r"> ",
    "answer": r"<details>",
    "badge": r"\[!\[",
    "paragraph": "",
}
SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?]\*\*)|(?<=[.!?]\)))\s+(?=[(*\"]*[A-Z`])")
FOR_TOOLS = re.compile(r"^ *(### (BEGIN|END) SOLUTION|# NBVAL_|# checks ).*\n?|  # (noqa|fmt)\b.*", re.MULTILINE)


@dataclass
class Slide:
    """A title, the blocks below it, and notes for the lecturer."""

    title: str  # Markdown, with its #
    blocks: list[NotebookNode] = field(default_factory=list)  # cells; metadata.kind says what they are
    notes: list[str] = field(default_factory=list)  # Markdown


def slides(cells: Iterable[tuple[object, str, NotebookNode]]) -> list[Slide]:
    """The slides of cells that come with a key, which is another one for each slide, and with a title."""
    made: list[Slide] = []
    previous = None
    for key, title, cell in cells:
        if key != previous:
            made.append(Slide(title))
        previous = key
        shown, notes = (_text if cell.cell_type == "markdown" else _code)(cell)
        made[-1].notes += notes
        for block in shown:
            if block.metadata.get("continued"):
                made.append(Slide(title))
            made[-1].blocks.append(block)
    if empty := [slide.title for slide in made if not slide.blocks]:
        raise ValueError(f"nothing is on the slide with title {empty[0]!r}: name a sentence in its cell's `show`")
    return made


def of_notebook(notebook: NotebookNode) -> list[Slide]:
    """The deck of a notebook: its cells with slide metadata."""
    chosen, key = [], 0
    for title, cell in _titled(notebook):
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "skip")
        key += kind in ("slide", "subslide")
        if kind != "skip":
            chosen.append((key, title, cell))
    return slides(chosen)


def of_lecture(notebooks: Iterable[NotebookNode]) -> list[Slide]:
    """The single lecture: a title, then the cells of all notebooks with a tag like "lecture:07", in that order."""
    chosen = [
        (tag, title, cell)
        for notebook in notebooks
        for title, cell in _titled(notebook)
        for tag in cell.metadata.get("tags", [])
        if tag.startswith("lecture:")
    ]
    title = Slide(f"# {LECTURE}", [new_markdown_cell(PLAN, metadata={"kind": "sentence"})])
    return [title, *slides(sorted(chosen, key=lambda item: item[0]))]


def _titled(notebook: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """Each cell with the heading above it, not counting those of exercises."""
    title = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            title = (re.findall(r"^#+ (?!Exercise).+", cell.source, re.MULTILINE) or [title])[-1]
        yield re.sub("^##+", "##", title), cell


def _text(cell: NotebookNode) -> tuple[list[NotebookNode], list[str]]:
    """The blocks of a text cell for the slide, and its notes."""
    phrases = set(cell.metadata.get("slideshow", {}).get("show", []))
    for_speaker = cell.metadata.get("slideshow", {}).get("slide_type") == "notes"
    shown, notes, found = [], [], set()
    source = re.sub(r"!\[[^\]]*\]\(\.\./img/\S+\)", "", cell.source)  # pictures in slides are those that code draws
    source = re.sub(r"\[([^\]]*)\]\(00_\w+\.ipynb\)", r"\1", source)  # this one has no deck
    for block in re.split(r"\n\s*\n", source.strip()):
        kind = next(kind for kind, beginning in BLOCKS.items() if re.match(beginning, block))
        block = re.sub(r"\((\d\d_\w+)\.ipynb[^)\s]*\)", r"(\1.html)", block)
        if kind == "paragraph":
            notes.append(block)
            text = " ".join(block.split())
            for sentence in SENTENCE_END.split(text):
                if here := {phrase for phrase in phrases if phrase in sentence}:
                    found |= here
                    shown.append(new_markdown_cell(sentence, metadata={"kind": "sentence"}))
        elif for_speaker:
            notes.append(block)
        elif kind not in ("heading", "answer", "badge"):
            block = in_steps(block) if kind == "equation" else block
            shown.append(new_markdown_cell(block, metadata={"kind": kind}))
    _complain(phrases - found, cell)
    return shown, notes


def _code(cell: NotebookNode) -> tuple[list[NotebookNode], list[str]]:
    """The blocks of a code cell for the slide: chosen pieces of code, `LINES` at most; its figures or its text."""
    phrases = cell.metadata.get("slideshow", {}).get("show", [])
    code = trimmed(cell.source).split("\n\n") if phrases else []
    pieces = [piece for piece in code if any(phrase in piece for phrase in phrases)]
    _complain({phrase for phrase in phrases if not any(phrase in piece for piece in pieces)}, cell)
    shown: list[NotebookNode] = []
    for piece in pieces:
        if shown and shown[-1].source.count("\n") + piece.count("\n") + 3 <= LINES:
            shown[-1].source += f"\n\n{piece}"
        else:
            shown.append(new_code_cell(piece, metadata={"kind": "code", "continued": bool(shown)}))
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    if cell.outputs:
        kind = "figure" if pictures else "printed"
        moving = [live.html(tag[5:]) for tag in cell.metadata.get("tags", []) if tag.startswith("live:")]
        shown.append(
            new_code_cell(outputs=pictures or cell.outputs, metadata={"kind": kind, "moving": "".join(moving)})
        )
    return shown, []


def _complain(phrases: set[str], cell: NotebookNode) -> None:
    """Raise ValueError if a phrase to show is not in its cell."""
    if phrases:
        raise ValueError(f'no sentence or piece of code has "{min(phrases)}", which a slide shows, in:\n{cell.source}')


def in_steps(equation: str) -> str:
    r"""A derivation, \begin{aligned} left &= right && reason, with long left sides on lines of their own."""
    before, aligned, rest = equation.partition(r"\begin{aligned}")
    body, _, after = rest.partition(r"\end{aligned}")
    lines = [line.partition("&") for line in body.split(r"\\")]
    if "&&" not in body:
        return equation
    steps = []
    for left, _, right in lines:
        if len(left.strip()) > 30:
            steps.append(f"& {left.strip()}")
            left = ""
        right = re.sub("&&(.*)", r"&& {\\small\1}", right.rstrip(), flags=re.DOTALL)
        steps.append(f"{left}&{right}")
    return before + aligned + "\\\\[0.3em]\n".join(steps) + r"\end{aligned}" + after


class _ForReading(libcst.CSTTransformer):
    """Drops docstrings, types, asserts, and what is printed outside functions; comments stay."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0

    def visit_FunctionDef(self, node: libcst.FunctionDef) -> None:
        self.depth += 1

    def leave_FunctionDef(self, original: libcst.FunctionDef, new: libcst.FunctionDef) -> libcst.FunctionDef:
        self.depth -= 1
        return new.with_changes(returns=None)

    def leave_Param(self, original: libcst.Param, new: libcst.Param) -> libcst.Param:
        return new.with_changes(annotation=None)

    def leave_Assert(self, original: libcst.Assert, new: libcst.Assert) -> libcst.RemovalSentinel:
        return libcst.RemoveFromParent()

    def leave_Expr(self, original: libcst.Expr, new: libcst.Expr) -> libcst.Expr | libcst.RemovalSentinel:
        text = matchers.matches(new.value, matchers.SimpleString() | matchers.ConcatenatedString())
        printed = matchers.matches(new.value, matchers.Call(func=matchers.Name("print"))) and not self.depth
        return libcst.RemoveFromParent() if text or printed else new


def trimmed(source: str) -> str:
    """Code as a class reads it: without docstrings, types, asserts, prints, and marks for the course's tests."""
    code = libcst.parse_module(FOR_TOOLS.sub("", HIDDEN.sub("", source))).visit(_ForReading()).code
    ruff = [sys.executable, "-m", "ruff", "format", "--isolated", f"--line-length={COLUMNS}", "-"]
    code = subprocess.run(ruff, input=code, capture_output=True, encoding="utf-8", check=True).stdout
    code = "\n".join(line if len(line) <= COLUMNS else line.split("  # ")[0] for line in code.splitlines())
    return re.sub(r"\n{3,}", "\n\n", re.sub(r":\n\n+", ":\n", code)).strip()


def html(deck: list[Slide]) -> str:
    """The deck as a page that needs `assets` beside it."""
    cells = []
    for slide in deck:
        sentences = [block.source for block in slide.blocks if block.metadata.kind == "sentence"]
        alt = re.sub(r"[*`$\\]", "", " ".join([slide.title.lstrip("# "), *sentences]))
        blocks = [nbformat.from_dict(block) for block in slide.blocks]  # copies: the deck stays as it is
        for block in blocks:
            block.metadata.update(fragment=not block.metadata.get("moving"), alt=alt)
        blocks[0].metadata.update(fragment=False, title=slide.title, notes="\n\n".join(slide.notes))
        blocks[-1].metadata.last = True
        cells += blocks
    notebook = new_notebook(cells=cells, metadata={"title": deck[0].title.lstrip("# ")})
    options = Config()
    options.CSSHTMLHeaderPreprocessor.style = "a11y-high-contrast-light"
    exporter = SlidesExporter(
        config=options,
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_anchor_links=True,
        reveal_width="1280",
        reveal_height="720",
        reveal_number="c/t",
        reveal_transition="none",
    )
    return exporter.from_notebook_node(notebook)[0]


def copy_assets(folder: Path) -> None:
    """Copy reveal.js with its font (vendor/), MathJax and fonts from installed packages, and our style sheet."""
    mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    shutil.copytree(VENDOR, folder, ignore=shutil.ignore_patterns("SHA256SUMS"))
    for file in (
        mathjax / "tex-svg.js",
        fonts / "DejaVuSansMono.ttf",
        fonts / "DejaVuSans.ttf",
        fonts / "LICENSE_DEJAVU",
        TEMPLATE / "slides.css",
        *live.LIVE.iterdir(),
    ):
        shutil.copy(file, folder)


def decks() -> dict[str, list[Slide]]:
    """All decks by name: one for each notebook, and the lecture."""
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in CHAPTERS}
    for notebook in notebooks.values():
        for cell, below in pairwise(notebook.cells):
            if any(tag.startswith("live:") for tag in cell.metadata.get("tags", [])):
                cell.outputs = below.outputs
    of_each = {name: of_notebook(notebook) for name, notebook in notebooks.items()}
    return of_each | {"lecture": of_lecture(notebooks.values())}


def make(folder: Path) -> None:
    """Write all decks, what they need, and a list of them into `folder`, in place of what is there."""
    made = decks()
    shutil.rmtree(folder, ignore_errors=True)
    copy_assets(folder / "assets")
    entries = []
    for name, deck in made.items():
        write_whole(folder / f"{name}.html", html(deck))
        entries.append(f'<li><a href="{name}.html">{deck[0].title.lstrip("# ")}</a>, {len(deck)} slides</li>')
        print(f"slides/{name}.html  {len(deck)} slides")
    page = (TEMPLATE / "index.html").read_text(encoding="utf-8")
    write_whole(folder / "index.html", page.replace("DECKS", "\n".join(entries)))


if __name__ == "__main__":
    make(COURSE / "slides")
