"""What stands in the cells of a course notebook: the exercises, and which cell needs which."""

import ast
import dis
import re
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from nbformat import NotebookNode

COURSE = Path(__file__).parents[1]
NOTEBOOKS = sorted(COURSE.glob("notebooks/*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if not path.name.startswith("00")]  # with exercises, slides and checks
SETUP = "# @title Setup"
HIDDEN = re.compile(r"^### BEGIN HIDDEN TESTS\n(.*)^### END HIDDEN TESTS$", re.DOTALL | re.MULTILINE)


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file whole or not at all, with the folders it needs; text as UTF-8 with the line ends that it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(data if isinstance(data, bytes) else data.encode())
    partial.replace(path)


@dataclass(frozen=True)
class Exercise:
    """What points are given for: an exercise, which tests decide, or a question, which a person reads."""

    grade_id: str  # "exercise-2-3" or "question-2-1"
    points: int
    name: str  # of the function or class to write; empty for a question
    answer: int  # index of the cell to write in
    test: int  # index of the cell that gives the points; for a question the same

    @property
    def title(self) -> str:
        """As students know it: "Exercise 2.3 gaussian_kl"."""
        kind, number = self.grade_id.split("-", 1)
        return f"{kind.capitalize()} {number.replace('-', '.')} {self.name}".rstrip()


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """All that is graded in a notebook or its hand-out, in its order."""
    found, answer = [], 0
    for i, cell in enumerate(notebook.cells):
        marks = cell.metadata.get("nbgrader", {})
        answer = i if marks.get("solution") else answer
        if marks.get("grade"):
            code = notebook.cells[answer].source if cell.cell_type == "code" else ""
            (name,) = re.findall(r"^(?:def|class) (\w+)", code, re.MULTILINE) or [""]
            found.append(Exercise(marks["grade_id"].removesuffix("-test"), marks["points"], name, answer, i))
    return found


def dependencies(cells: list[str], needed: list[int]) -> list[int]:
    """Which of `cells`, given as sources, are `needed`, or depended on by these, or the first that imports.

    The setup cell is left out. Not found is a cell that changes a thing without binding its name: one that trains a
    model, say.
    """
    names = [_Names(source) for source in cells]
    modules = set().union(*(cell.imported for cell in names))
    ours = [i for i, source in enumerate(cells) if not source.startswith(SETUP)]
    todo = needed + [i for i in ours if names[i].imported][:1]
    chosen: set[int] = set()
    while todo:
        cell = todo.pop()
        if cell in chosen:
            continue
        chosen.add(cell)
        # a function looks its names up when it is called: in this cell, or as late as in the last one
        for name, end in [(n, cell) for n in names[cell].used] + [(n, max(needed) + 1) for n in names[cell].later]:
            for i in reversed([i for i in ours if i < end]):
                if name in names[i].bound | (names[i].changed - modules):
                    todo.append(i)
                if name in names[i].bound:
                    break
    return sorted(chosen)


class _Names:
    """The global names of a cell, read from what it compiles to.

    `bound`: given a value, `imported` some of them; `changed`: changed in place, as by `x[0] = 1` or `x.append(1)`;
    `used`: looked up before the cell itself binds them; `later`: looked up by its functions when they are called.
    """

    def __init__(self, source: str) -> None:
        code = compile(source, "cell", "exec")
        self.bound, self.used = set(), set()
        for step in dis.get_instructions(code):
            if step.opname == "STORE_NAME":
                self.bound.add(step.argval)
            elif step.opname == "LOAD_NAME" and step.argval not in self.bound:
                self.used.add(step.argval)
        self.later = {
            step.argval
            for inner in _inner(code)
            for step in dis.get_instructions(inner)
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        }
        self.used |= self.later - self.bound
        nodes = list(ast.walk(ast.parse(source)))
        imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
        self.imported = {(alias.asname or alias.name).split(".")[0] for node in imports for alias in node.names}
        self.changed = {_root(node) for node in nodes if _changes(node)}


def _inner(code: CodeType) -> list[CodeType]:
    """The code of all functions, classes and comprehensions within `code`."""
    found = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found + [deeper for inner in found for deeper in _inner(inner)]


def _changes(node: ast.AST) -> bool:
    """Whether `node` stores into a part of a thing, or is a method called for its effect."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
    return isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)


def _root(node: ast.AST) -> str:
    """The name `x` that an expression like `x.a[0].f()` begins with; empty if it begins otherwise."""
    while not isinstance(node, ast.Name):
        node = getattr(node, "value", None) or getattr(node, "func", None)
        if node is None:
            return ""
    return node.id
