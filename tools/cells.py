"""Reach into the notebooks: their cells, the functions they define, one cell run with a slip planted in it.

A notebook is named like its file, without the ending: `definitions("04_vae").VAE(784, 400, 20)`. What needs no PyTorch
is in tools/notebook.py.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType

import matplotlib.pyplot as plt
import nbformat
import torch
from nbformat import NotebookNode

from tools import notebook
from tools.notebook import COURSE, dependencies

FOLDER = COURSE / "notebooks"
NAMES = [path.stem for path in notebook.NOTEBOOKS]
CHAPTER_NAMES = [path.stem for path in notebook.CHAPTERS]  # those with exercises


def load(name: str) -> NotebookNode:
    """The notebook."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def sources(name: str) -> list[str]:
    """The source of each code cell."""
    return [cell.source for cell in load(name).cells if cell.cell_type == "code"]


def equations(name: str) -> list[str]:
    r"""The numbers of the displayed equations, "2.3" for \tag{2.3}, in the notebook's order."""
    return [
        tag
        for cell in load(name).cells
        if cell.cell_type == "markdown"
        for tag in re.findall(r"\\tag\{(.+?)\}", cell.source)
    ]


def checking(name: str, equation: str) -> list[int]:
    """Which code cells carry the comment `# checks (2.3)` for `equation` "2.3", among others perhaps."""
    comment = re.compile(rf"^ *# checks (\([\d.]+\), )*\({re.escape(equation)}\)", re.MULTILINE)
    return [i for i, source in enumerate(sources(name)) if comment.search(source)]


def definitions(name: str, **given: object) -> ModuleType:
    """A module of what the notebook imports, its functions and classes, and the constants it writes as literals.

    Nothing else runs. `given` are further global names for the notebook's functions to use, `device` for example.
    """
    module = ModuleType(name)
    vars(module).update(given)
    for i, source in enumerate(sources(name)):
        _execute([statement for statement in ast.parse(source).body if _defines(statement)], module, i)
    return module


def run_cells(name: str, needed: int | Iterable[int], replace: dict[str, str] | None = None) -> ModuleType:
    """Run the code cells `needed` and, of those before them, only their `dependencies`; returns a module of all names.

    `replace` maps texts in these cells to their replacements; ValueError if a text is in none of them.
    An exception of a cell gets an attribute `cell`, the cell's index.
    """
    cells = sources(name)
    chosen = dependencies(cells, [needed] if isinstance(needed, int) else list(needed))
    for old in replace or {}:
        if not any(old in cells[i] for i in chosen):
            raise ValueError(f"{old!r} is in none of the code cells {chosen} of {name}")
    module = ModuleType(name)
    module.display = lambda *_: None
    plt.switch_backend("agg")
    with torch.random.fork_rng(), plt.rc_context(), _nothing_left_behind():
        for i in chosen:
            for old, new in (replace or {}).items():
                cells[i] = cells[i].replace(old, new)
            _execute(ast.parse(cells[i]).body, module, i)
    return module


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """When cells have run or failed, close their figures and put back what a notebook sets for its whole kernel."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        plt.close("all")


def _execute(statements: list[ast.stmt], module: ModuleType, cell: int) -> None:
    """Run statements of a code cell with the module's names."""
    try:
        exec(compile(ast.Module(statements, []), f"{module.__name__}, code cell {cell}", "exec"), vars(module))
    except Exception as error:
        error.cell = cell
        raise


def _defines(statement: ast.stmt) -> bool:
    """Whether the statement is an import, a function, a class, or gives a literal a name."""
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        try:
            ast.literal_eval(statement.value)
        except ValueError:
            return False
        return True
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
