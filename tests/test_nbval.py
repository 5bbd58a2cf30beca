"""nbval, as pyproject.toml sets it up, fails for a wrong formula, a changed output and an exception, and says where."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from tools import cells as course
from tools.notebook import COURSE

NAME = "01_autoencoder"
MARKER = "# NBVAL_CHECK_OUTPUT"
pytestmark = pytest.mark.slow


def shortened() -> nbformat.NotebookNode:
    """Notebook 01, cut down to its setup cell, the check of its first equation, the first output it must keep, and
    what these depend on.
    """
    notebook, cells = course.load(NAME), course.sources(NAME)
    checks = course.checking(NAME, "1.1")
    kept = next(i for i, source in enumerate(cells) if source.startswith(MARKER))
    chosen = [0, *course.dependencies(cells, [*checks, kept])]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = [code[i] for i in chosen]
    return notebook


def replace(notebook, old, new):
    """Plant a slip: write `new` for `old` in the one cell that has it."""
    (cell,) = [cell for cell in notebook.cells if old in cell.source]
    cell.source = cell.source.replace(old, new)


def wrong_formula(notebook):
    """A mean for a sum in equation (1.1); its check must notice."""
    replace(notebook, "(x - x_hat).square().sum(dim=1)", "(x - x_hat).square().mean(dim=1)")
    return "# checks (1.1)"


def changed_output(notebook):
    """The cell now prints something else than what is stored."""
    cell = next(cell for cell in notebook.cells if cell.source.startswith(MARKER))
    cell.source = re.sub(r"\bprint\(", 'print("about", ', cell.source, count=1)
    return MARKER


def exception(notebook):
    """A name that doesn't exist."""
    replace(notebook, "use_style()\n", "use_style()\nuse_stile()\n")
    return "use_stile"


def nothing(notebook):
    """No slip at all."""


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """For each slip: sources of the cells that nbval fails; one run of pytest over all the copies."""
    folder = tmp_path_factory.mktemp("course")
    for name in ("checks", "utils"):
        shutil.copytree(COURSE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    copies = {}
    for plant in (wrong_formula, changed_output, exception, nothing):
        copies[plant.__name__] = shortened()
        plant(copies[plant.__name__])
        nbformat.write(copies[plant.__name__], folder / f"{plant.__name__}.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        COURSE / "pyproject.toml",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    result = subprocess.run([*command, "-rA", folder], cwd=folder, capture_output=True, text=True, encoding="utf-8")
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) .*?(\w+)\.ipynb::Cell (\d+)", result.stdout, re.MULTILINE)
    assert len(outcomes) == sum(len(copy.cells) for copy in copies.values()), result.stdout
    return {
        name: [copy.cells[int(i)].source for outcome, where, i in outcomes if where == name and outcome != "PASSED"]
        for name, copy in copies.items()
    }


@pytest.mark.parametrize("plant", [wrong_formula, changed_output, exception], ids=lambda plant: plant.__name__)
def test_a_planted_slip_fails_in_the_cell_that_should_notice(failures, plant):
    assert plant(shortened()) in failures[plant.__name__][0]


def test_without_a_slip_everything_passes(failures):
    assert failures["nothing"] == []
