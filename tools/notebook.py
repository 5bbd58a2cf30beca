"""What the tools share: where the notebooks are, their exercises, which cell needs which, and writing files whole."""

import ast
import re
import symtable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nbformat import NotebookNode

COURSE = Path(__file__).parents[1]
NOTEBOOKS = sorted(COURSE.glob("notebooks/*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if not path.name.startswith("00")]  # with exercises, slides and checks
SETUP = "# @title Setup"
LINK = re.compile(r"\[([^\[\]]*)\]\(\d\d_\w+\.ipynb[^)\s]*\)")  # to another notebook; its text is group 1
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
    """Which of `cells`, given as sources, are `needed`, or depended on by one of these, or the first that imports.

    The setup cell is left out. Not found is a cell that changes a thing without binding its name: one that trains a
    model, say.
    """
    names = [_names(source) for source in cells]
    ours = [i for i, source in enumerate(cells) if not source.startswith(SETUP)]
    imports = [i for i in ours if names[i].imported][:1]
    return sorted(set().union(*(_depended_on(names, ours, [cell, *imports], cell + 1) for cell in needed)))


@cache
def _names(source: str) -> "_Names":
    return _Names(source)


def _depended_on(names: list["_Names"], ours: list[int], todo: list[int], end: int) -> set[int]:
    """The cells `todo` and what they depend on, when functions may be called as late as before cell `end`."""
    modules = set().union(*(cell.imported for cell in names))
    backwards = [(i, names[i].bound, names[i].changed - modules) for i in reversed(ours)]
    chosen: set[int] = set()
    while todo:
        cell = todo.pop()
        if cell in chosen:
            continue
        chosen.add(cell)
        # a function looks its names up when it is called: in this cell, or as late as in the last one
        for name, before in [(n, cell) for n in names[cell].used] + [(n, end) for n in names[cell].later]:
            for i, bound, changed in backwards:
                if i < before and (name in bound or name in changed):
                    todo.append(i)
                    if name in bound:
                        break
    return chosen


class _Names(ast.NodeVisitor):
    """The global names of a cell.

    `bound`: given a value, `imported` some of them; `changed`: changed in place, as by `x[0] = 1` or `x.append(1)`;
    `used`: looked up before the cell itself binds them; `later`: looked up by its functions, classes and
    comprehensions.
    """

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        self.bound, self.used, self.imported = set(), set(), set()
        self.later = _globals_of_inner_scopes(symtable.symtable(source, "cell", "exec"))
        self.visit(tree)
        self.used |= self.later - self.bound
        self.changed = {_root(node) for node in ast.walk(tree) if _changes(node)}

    def visit_Name(self, node: ast.Name) -> None:
        """A name that is read or bound."""
        if isinstance(node.ctx, ast.Store):
            self.bound.add(node.id)
        elif node.id not in self.bound:
            self.used.add(node.id)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Names that an import binds."""
        names = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        self.imported |= names
        self.bound |= names

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """What is evaluated where a function or class is defined; its body is a scope of its own."""
        signature = [node.args, node.returns] if not isinstance(node, ast.ClassDef) else [*node.bases, *node.keywords]
        for part in [*node.decorator_list, *filter(None, signature)]:
            self.visit(part)
        self.bound.add(node.name)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """The defaults of its arguments."""
        self.visit(node.args)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        """What it runs over first; the rest is a scope of its own."""
        self.visit(node.generators[0].iter)
        element = ast.Tuple([node.key, node.value], ast.Load()) if isinstance(node, ast.DictComp) else node.elt
        # from Python 3.12 on, only a generator has a symbol table of its own
        generator = ast.unparse(ast.GeneratorExp(element, node.generators))
        self.later |= _globals_of_inner_scopes(symtable.symtable(generator, "cell", "exec"))

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def visit_Assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) -> None:
        """The value before the names that it gets."""
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self.visit(ast.Name(node.target.id, ast.Load()))
        for part in [node.value, *(node.targets if isinstance(node, ast.Assign) else [node.target])]:
            if part:
                self.visit(part)

    visit_AnnAssign = visit_AugAssign = visit_NamedExpr = visit_Assign

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """The name of a caught exception."""
        self.bound |= {node.name} if node.name else set()
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        """What it runs over before the names that it gives values."""
        for part in [node.iter, node.target, *node.body, *node.orelse]:
            self.visit(part)


def _globals_of_inner_scopes(table: symtable.SymbolTable) -> set[str]:
    """The names that functions, classes and comprehensions below a scope take from the module."""
    found = set()
    for inner in table.get_children():
        found |= {symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        found |= _globals_of_inner_scopes(inner)
    return found


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
