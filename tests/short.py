"""Notebooks for tests that ask whether they run, not what they find: training is cut short, and nothing is asserted."""

import ast

from nbformat import NotebookNode

from tools import cells as course

FIVE_MINIBATCHES = """
from itertools import islice
from utils import training
whole = training.minibatches
training.minibatches = lambda *given, **more: islice(whole(*given, **more), 5)
"""  # an epoch


def load(name: str) -> NotebookNode:
    """Notebook `name`: after the setup cell there are no assertions, and an epoch has five minibatches."""
    notebook = course.load(name)
    _, *cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    for cell in cells:
        cell.source = _without_assertions(cell.source)
    cells[0].source = FIVE_MINIBATCHES + cells[0].source
    return notebook


def sources(name: str) -> list[str]:
    """The source of each of its code cells."""
    return [cell.source for cell in load(name).cells if cell.cell_type == "code"]


def _without_assertions(source: str) -> str:
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assert):
            blank = [""] * (node.end_lineno - node.lineno)
            lines[node.lineno - 1 : node.end_lineno] = [lines[node.lineno - 1][: node.col_offset] + "pass", *blank]
    return "\n".join(lines)
