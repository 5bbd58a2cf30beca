"""The helpers that reach into notebooks, on a small notebook of their own."""

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import cells as course

CELLS = [
    "# @title Setup\nimport sys\nnowhere()",  # 0: never runs
    "import math\nimport torch\nfrom torch import nn\n\ntorch.manual_seed(0)\nscale = float(2)",  # 1
    "FACTOR = 3\nunits = ('nats', 'bits')",  # 2
    "def area(r):\n    return FACTOR * half(r) * r * scale",  # 3
    "def half(r):\n    return 0.5 * r",  # 4
    "class Net(nn.Module):\n    size = FACTOR\n\n    def forward(self, x):\n        return area(x)",  # 5
    "torch.ones(1).sum()\nraise RuntimeError('an expensive cell that nothing depends on')",  # 6
    "values = [1.0]\nunused = 0",  # 7
    "values.append(2.0)",  # 8
    "# checks (0.1)\nassert area(2.0) == 12",  # 9
    "total = sum(v for v in values)",  # 10
    "# checks (0.2), (0.3): by hand\ndisplay(total)\ntotal = total + 0\nassert total == 3.0",  # 11
    "values = [7.0]\nassert Net()(1.0) == 3",  # 12
]


@pytest.fixture(autouse=True)
def example(tmp_path, monkeypatch):
    notebook = new_notebook(cells=[new_markdown_cell(r"$$ a \tag{0.1} $$ and $$ b \tag{0.2} $$")])
    notebook.cells += [new_code_cell(source, outputs=[new_output("stream", text="1\n")]) for source in CELLS]
    nbformat.write(notebook, tmp_path / "example.ipynb")
    monkeypatch.setattr(course, "FOLDER", tmp_path)


def names(module):
    return {name for name in vars(module) if not name.startswith("_")}


def test_sources_are_the_code_cells():
    assert course.sources("example") == CELLS


def test_equations_and_the_cells_that_check_them():
    assert course.equations("example") == ["0.1", "0.2"]
    assert course.checking("example", "0.1") == [9]
    assert course.checking("example", "0.2") == course.checking("example", "0.3") == [11]
    assert course.checking("example", "0.4") == []


def test_definitions_are_functions_classes_imports_and_literals():
    module = course.definitions("example")
    assert names(module) == {"sys", "math", "torch", "nn", "FACTOR", "units", "area", "half", "Net"} | {
        "values",
        "unused",
    }
    assert module.half(4.0) == 2.0
    assert module.Net.size == 3


def test_functions_see_what_they_are_given_and_what_a_test_changes():
    module = course.definitions("example", scale=10.0)
    assert module.area(1.0) == 15
    module.FACTOR = 1
    assert module.area(1.0) == 5


def test_a_cell_runs_with_what_it_depends_on_and_no_more():
    module = course.run_cells("example", 9)
    assert names(module) == {"display", "math", "torch", "nn", "scale", "FACTOR", "units", "area", "half"}


def test_changes_in_place_belong_to_a_value():
    assert course.run_cells("example", 11).total == 3.0
    assert course.run_cells("example", [8, 12]).values == [7.0]


def test_the_dependencies_of_classes_are_found_through_their_methods():
    assert "half" in names(course.run_cells("example", 12))


def test_what_several_cells_depend_on_is_what_each_of_them_does():
    cells = ["import math", "def f():\n    return g", "g = 1", "f()", "g = 2", "g"]
    each = [course.dependencies(cells, [i]) for i in (3, 5)]
    assert each == [[0, 1, 2, 3], [0, 4, 5]]
    assert course.dependencies(cells, [3, 5]) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("use", "needed"),
    [
        ("[x for x in a if x]", True),
        ("[a for _ in (1, 2)]", True),
        ("{x: [a for _ in (1, 2)] for x in (1, 2)}", True),
        ("[a for a in (1, 2)]", False),
        ("a = 1\nprint(a)", False),
        ("a += 1", True),
        ("for a in range(3):\n    print(a)", False),
        ("for i in a:\n    pass", True),
        ("def f(a):\n    return a", False),
        ("def f(b=a):\n    return b", True),
        ("class C:\n    b = a", True),
        ("(lambda: a)()", True),
        ("try:\n    pass\nexcept ValueError as a:\n    print(a)", False),
        ("print(a := 1)\nprint(a)", False),
        ("import a", False),
        ("with open('x') as a:\n    print(a)", False),
    ],
)
def test_which_names_a_cell_takes_from_before(use, needed):
    assert (0 in course.dependencies(["a = []", "import math", use], [2])) == needed


@pytest.mark.parametrize(("cell", "old", "new"), [(9, "0.5 *", "1.0 *"), (11, "[1.0]", "[1.5]")])
def test_a_planted_slip_is_caught_by_the_check(cell, old, new):
    course.run_cells("example", cell)
    with pytest.raises(AssertionError) as caught:
        course.run_cells("example", cell, {old: new})
    assert caught.value.cell == cell


def test_a_slip_that_is_in_no_cell_that_runs_is_refused():
    with pytest.raises(ValueError, match="is in none"):
        course.run_cells("example", 9, {"0.75": "1"})
    with pytest.raises(ValueError, match="is in none"):
        course.run_cells("example", 9, {"[1.0]": "[2.0]"})


def test_random_numbers_of_the_test_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    course.run_cells("example", 9)
    assert torch.rand(1) == expected


def test_a_cell_that_fails_leaves_nothing_behind(monkeypatch):
    cell = "import torch\nfrom matplotlib import pyplot\npyplot.figure()\ntorch.set_default_dtype(torch.float64)\n1 / 0"
    monkeypatch.setattr(course, "sources", lambda name: [cell])
    with pytest.raises(ZeroDivisionError):
        course.run_cells("example", 0)
    assert torch.get_default_dtype() == torch.float32
    assert plt.get_fignums() == []
