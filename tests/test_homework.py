"""Hand-outs: complete, worth their points, without an answer in them, and solvable from the unpacked zip alone."""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbgrader.preprocessors import CheckCellMetadata

from tools import cells as course
from tools import homework
from tools.notebook import HIDDEN, SETUP, dependencies, exercises

NAMES = course.CHAPTER_NAMES
each_notebook = pytest.mark.parametrize("name", NAMES)
SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)
NO_SECRETS = [  # what the exercises' own texts name, and what everybody writes
    "optimizer.zero_grad()",
    "loss.backward()",
    'terms["loss"].backward()',
    "optimizer.step()",
    "mu, logvar = model.encode(x)",
    "logits = model.decode(z)",
    "logits, mu, logvar = model(x)",
    "terms = vae_loss(logits, x, mu, logvar)",
    "return by_mu, by_logvar",
    "return loss.detach()",
    "with torch.random.fork_rng():",
]


@pytest.fixture(scope="module")
def zips(tmp_path_factory):
    """The hand-outs' zip files, by the notebook's name."""
    folder = tmp_path_factory.mktemp("homework")
    for name in NAMES:
        homework.pack(name, course.load(name), folder / f"{name}.zip")
    return {name: folder / f"{name}.zip" for name in NAMES}


def answers_put_back(name):
    """The hand-out of a notebook with our code in it, and some words where a question is asked."""
    source, handout = course.load(name), course.load(f"practice/{name}")
    for exercise in exercises(source):
        handout.cells[exercise.answer].source = source.cells[exercise.answer].source if exercise.name else "I say so."
    return handout


@each_notebook
def test_every_exercise_and_question_is_marked_and_they_add_up(name):
    notebook = course.load(name)
    CheckCellMetadata().preprocess(notebook, {})
    graded = exercises(notebook)
    assert sum(exercise.points for exercise in graded) == (100 if name < "05" else 50)
    headings = re.findall(
        r"^### (\w+ [\d.]+) \((\d+) points\)$", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE
    )
    assert [(" ".join(e.title.split()[:2]), str(e.points)) for e in graded] == headings
    for exercise in graded:
        answer, test = notebook.cells[exercise.answer], notebook.cells[exercise.test]
        if exercise.name:
            assert SOLUTION.search(answer.source)
            assert HIDDEN.search(test.source)
            assert f"({exercise.name})" in test.source
        else:
            assert re.search(r"^\* \d+ points?", answer.source, re.MULTILINE), "no rubric"


@each_notebook
def test_rubrics_give_the_points_of_their_question(name):
    notebook = course.load(name)
    for exercise in exercises(notebook):
        if not exercise.name:
            given = re.findall(
                r"^\* (\d+) points?( each, up to (\d+))?", notebook.cells[exercise.answer].source, re.MULTILINE
            )
            assert sum(int(most or points) for points, _, most in given) == exercise.points


@each_notebook
def test_practice_versions_are_fresh(name):
    expected = nbformat.writes(homework.handout(course.load(name))) + "\n"
    stored = (course.FOLDER / "practice" / f"{name}.ipynb").read_text(encoding="utf-8")
    assert stored == expected, "run `make homework`"


@each_notebook
def test_no_answer_leaks(name, zips):
    """No line of an answer, of a model answer's text or of a hidden test is in any file of the hand-out."""
    source = course.load(name)
    secret = [HIDDEN.search(source.cells[e.test].source)[1] for e in exercises(source) if e.name]
    secret += [source.cells[e.answer].source for e in exercises(source) if not e.name]
    secret += [answer for cell in source.cells for answer in SOLUTION.findall(cell.source)]
    lines = {squeezed(line) for text in secret for line in text.splitlines()}
    lines = {line for line in lines if len(line) > 15} - {squeezed(line) for line in NO_SECRETS}
    assert len(lines) > 15
    with zipfile.ZipFile(zips[name]) as archive:
        for file in archive.namelist():
            if file.endswith(".npz"):
                continue
            text = archive.read(file).decode("utf-8")
            if file.endswith(".ipynb"):
                handout = nbformat.reads(text, as_version=4)
                assert all(not cell.get("outputs") for cell in handout.cells)
                text = "\n".join(cell.source + json.dumps(cell.metadata) for cell in handout.cells)
                assert "BEGIN" not in text
            assert [line for line in lines if line in squeezed(text)] == [], file


def expressions(code):
    """The larger expressions of some code, as syntax trees without names of variables and of keyword arguments."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.expr) and len(list(ast.walk(node))) >= 15:
            text = re.sub(r"Name\(id='\w+'", "Name(id='_'", ast.dump(node))
            found.add(re.sub(r"keyword\(arg='\w+', value=(.*?)\)(?=[,\]])", r"\1", text))
    return found


@each_notebook
def test_no_check_computes_an_answer(name, zips):
    """However it is formatted: the checks that a student gets hold no expression of an answer."""
    answers = [course.load(name).cells[e.answer].source for e in exercises(course.load(name)) if e.name]
    solved = [ast.unparse(ast.parse(answer)) for answer in answers]
    wanted = set().union(*(expressions(answer) for answer in solved))
    with zipfile.ZipFile(zips[name]) as archive:
        checks = [file for file in archive.namelist() if "/checks/" in file]
        held = set().union(*(expressions(archive.read(file).decode()) for file in checks))
    assert wanted
    assert wanted & held == set()


def test_an_answer_in_other_clothes_is_recognised():
    answer = "kl = 0.5 * (mu.square() + logvar.exp() - logvar - 1).sum(dim=1).mean()"
    assert expressions(answer) & expressions("costs = 0.5*(m.square()+l.exp()\\\n - l - 1).sum( 1 )")
    assert not expressions(answer) & expressions(
        "costs = kl_divergence(q, prior).sum(1) + 0.5 * (a - b - c - 1).mean()"
    )


def squeezed(text):
    return re.sub(r"\s+", "", text)


@each_notebook
def test_the_zip_holds_what_is_needed_and_no_other_notebook_s_checks(name, zips):
    with zipfile.ZipFile(zips[name]) as archive:
        files = {file.removeprefix(f"{name}/") for file in archive.namelist()}
    assert {f"{name}.ipynb", "README.txt", "utils/data.py", "utils/digits.npz", "utils/__init__.py"} <= files
    assert len([file for file in files if file.startswith("checks/")]) == 3
    assert not [file for file in files if file.startswith(("tests", "tools", "notebooks"))]
    with zipfile.ZipFile(zips[name]) as archive:
        assert re.findall(r"\]\(\d\d_\w+\.ipynb", archive.read(f"{name}/{name}.ipynb").decode()) == []


def only_exercises(notebook):
    """Cut a notebook down to its setup, its exercises with their tests, and what these need."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tests = [i for i, cell in enumerate(code) if cell.metadata.get("nbgrader", {}).get("grade")]
    chosen = [0, *dependencies([cell.source for cell in code], tests)]
    assert code[0].source.startswith(SETUP)
    notebook.cells = [code[i] for i in chosen]
    return notebook, [i for i, cell in enumerate(notebook.cells) if cell.metadata.get("nbgrader", {}).get("grade")]


@pytest.mark.slow
@each_notebook
def test_unpacked_it_fails_as_given_and_passes_with_the_answers_put_back(name, zips, tmp_path):
    with zipfile.ZipFile(zips[name]) as archive:
        archive.extractall(tmp_path)
    where = {"metadata": {"path": tmp_path / name}}
    origin = nbformat.v4.new_code_cell("import utils\nprint(utils.__file__)")

    solved, _ = only_exercises(answers_put_back(name))
    given, tests = only_exercises(course.load(f"practice/{name}"))
    both = nbformat.v4.new_notebook(cells=[*solved.cells, origin, *given.cells[: tests[0] + 1]])
    with pytest.raises(CellExecutionError, match="NotImplementedError"):
        NotebookClient(both, timeout=600, iopub_timeout=300, kernel_name="python3", resources=where).execute()
    assert both.cells[-1].outputs[-1].output_type == "error"  # so no cell before it failed
    assert str(tmp_path) in origin.outputs[0].text
    assert "Correct." in "".join(output.get("text", "") for cell in solved.cells for output in cell.outputs)


@pytest.mark.slow
def test_nbgrader_itself_takes_the_notebooks(tmp_path):
    for name in NAMES:
        (tmp_path / "source" / "course").mkdir(parents=True, exist_ok=True)
        nbformat.write(course.load(name), tmp_path / "source" / "course" / f"{name}.ipynb")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls a program beside Python
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", "course", "--create"]
    run = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {file.stem for file in (tmp_path / "release" / "course").glob("*.ipynb")} == set(NAMES)
