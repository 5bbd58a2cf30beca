"""A mock class hands in right, wrong, mangled and hostile notebooks; all get their due, none harms another."""

import csv
import html
import io
import os
import re
import subprocess
import sys
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from test_homework import answers_put_back

from checks import probability_and_elbo as check
from checks.common import CheckFailed
from tools import cells as course
from tools.grading.result import Result
from tools.grading.worker import python, unwrapped
from tools.notebook import exercises

pytestmark = pytest.mark.slow

N1, N2, N3, N4 = "01_autoencoder", "02_probability_and_elbo", "03_reparameterization", "04_vae"
KL = "    return 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1)"
SECONDS = 20
CLASS = {}  # student: what builds the notebook, or the bytes, that the student hands in


def student(name):
    """Enrol what the function returns, under the student's name."""

    def enrol(build):
        CLASS[name] = build
        return build

    return enrol


def answered(name, **replaced):
    """Our answers, but for the functions named: their whole cell is replaced."""
    notebook = answers_put_back(name)
    for exercise in exercises(course.load(f"practice/{name}")):
        if exercise.name in replaced:
            notebook.cells[exercise.answer].source = replaced[exercise.name]
    return notebook


def kl(body, before=""):
    """Notebook 02 with another `gaussian_kl`."""
    return answered(N2, gaussian_kl=f"{before}def gaussian_kl(mu, logvar):\n{body}\n")


def cell_of(notebook, name):
    """Index of the cell that defines `name`."""
    (found,) = [i for i, cell in enumerate(notebook.cells) if f"def {name}(" in cell.source]
    return found


def without_marks(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)
    return notebook


for name in (N1, N2, N3, N4):
    student(f"Right {name}")(lambda name=name: answers_put_back(name))
    student(f"Empty {name}")(lambda name=name: course.load(f"practice/{name}"))

student("Marks lost")(lambda: without_marks(answers_put_back(N4)))


@student("José Núñez Colab")
def as_colab_saves():
    notebook = without_marks(answers_put_back(N3))
    for i, cell in enumerate(notebook.cells):
        cell.id = f"c{i}"
        cell.metadata = {"id": f"c{i}", "outputId": "0"} if cell.cell_type == "code" else {"id": f"c{i}"}
        cell.source = cell.source.rstrip() + "\n"
    notebook.metadata = {"colab": {"provenance": [], "gpuType": "T4"}, "accelerator": "GPU"}
    return notebook


@student("Cells twice")
def duplicated():
    notebook = answers_put_back(N2)
    notebook.cells = [copy for cell in notebook.cells for copy in (cell, nbformat.from_dict(cell))]
    return notebook


@student("Tests gone")
def deleted_tests():
    notebook = answers_put_back(N1)
    notebook.cells = [c for c in notebook.cells if not c.metadata.get("nbgrader", {}).get("locked")]
    return notebook


@student("Tests weakened")
def edited_tests():
    notebook = kl("    return 0 * mu.sum(-1)")
    for cell in notebook.cells:
        if "check.gaussian_kl(" in cell.source:
            cell.source = "print('Correct.')"
    return notebook


@student("Answer in a new cell")
def beside_the_stub():
    notebook = answers_put_back(N2)
    i = cell_of(notebook, "gaussian_kl")
    answer, notebook.cells[i].source = notebook.cells[i].source, course.load(f"practice/{N2}").cells[i].source
    notebook.cells.insert(i + 1, new_code_cell(answer))
    return notebook


@student("Helpers around")
def helper_cells():
    notebook = kl("    return HALF * price(mu, logvar).sum(-1)")
    i = cell_of(notebook, "gaussian_kl")
    notebook.cells.insert(i, new_code_cell("HALF = 0.5\n%matplotlib inline"))
    notebook.cells.insert(i + 2, new_code_cell("def price(m, l):\n    return torch.square(m) + l.exp() - l - 1"))
    return notebook


student("Other words")(
    lambda: kl("    q = Normal(mu, logvar.exp().sqrt())\n    return kl_divergence(q, Normal(0, 1)).sum(-1)")
)
WRONG = {
    "Half missing": "    return (mu**2 + logvar.exp() - logvar - 1).sum(-1)",
    "Mean for sum": "    return 0.5 * (mu**2 + logvar.exp() - logvar - 1).mean(-1)",
    "Sign flipped": "    return -0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1)",
}
for name, body in WRONG.items():
    student(name)(lambda body=body: kl(body))
student("Timed")(lambda: kl(KL, before="%%time\n"))
student("Captured")(lambda: kl(KL, before="%%capture out\n"))
student("Timed often")(lambda: kl(KL, before="%%timeit -n1 -r1\n"))
student("Asks")(lambda: kl(KL, before="name = input('who are you?')\n"))
student("Asks, wrongly")(lambda: kl("    input()\n    return mu.sum(-1)"))
student("Shows")(lambda: kl("    display(mu)\n" + KL, before="plt.plot([1, 2])\nplt.show()\ndisplay('x')\n"))
student("Progress")(
    lambda: kl("    for _ in tqdm(range(3)):\n        pass\n" + KL, before="from tqdm.auto import tqdm\n")
)
student("Installs")(lambda: kl(KL, before="!pip install -q sklearn\n%pip install x\n%matplotlib inline\n"))
student("Shell script")(lambda: kl(KL, before="%%bash\n"))
student("Needs what is gone")(lambda: kl("    return kl_of_my_own(mu, logvar)"))
student("Syntax")(lambda: kl("    return 0.5 * (mu**2"))
student("Endless")(lambda: kl("    while True:\n        pass"))
student("Endless, stubborn")(
    lambda: kl("    while True:\n        try:\n            input()\n        except BaseException:\n            pass")
)
student("Exits")(lambda: kl("    import os\n    os._exit(0)"))
student("Eats memory")(lambda: kl("    hog = [torch.ones(2**28) for _ in range(100)]\n" + KL))
student("Fills the disk")(
    lambda: kl(
        "    with open('big', 'wb') as file:\n        for _ in range(300):\n            file.write(bytes(2**20))\n" + KL
    )
)
student("Talks without end")(lambda: kl("    while True:\n        print('la' * 10000)"))
student("Swaps allclose")(lambda: kl("    return mu.sum(-1)", before="torch.allclose = lambda *a, **k: True\n"))
student("Swaps the check")(
    lambda: kl("    return mu.sum(-1)", before="check.gaussian_kl = print\ncheck.require = print\n")
)
student("Swaps code")(lambda: kl(KL, before="check.require.__code__ = (lambda condition, message: None).__code__\n"))
student("Looks at the check only")(
    lambda: kl(
        "    import inspect\n    seen = any('checks' in f.filename for f in inspect.stack())\n"
        f"    if not seen:\n        return mu.sum(-1)\n{KL}"
    )
)
SPY = """import os
def look():
    seen = os.environ.get("INSTRUCTOR_SECRET", "")
    for path in PATHS + [f"/proc/{os.getppid()}/environ"]:
        try:
            seen += open(path).read()[:50]
        except OSError:
            pass
    try:
        seen += str(os.listdir("/tmp"))  # where other submissions may lie
    except OSError:
        pass
    return seen
"""


@student("Spies")
def reads_what_is_not_theirs():
    paths = [str(course.NOTEBOOKS / f"{N2}.ipynb"), str(course.NOTEBOOKS.parent / "tools" / "guard.py")]
    spy = SPY.replace("PATHS", repr(paths)) + "assert not look(), f'I see {look()}'\n"
    return kl(KL, before=spy)


student("Renamed function")(lambda: answered(N2, gaussian_kl=f"def my_kl(mu, logvar):\n{KL}"))
student("Empty file")(lambda: b"")
student("Broken file")(lambda: b'{"cells": [')
student("Other course")(lambda: nbformat.v4.new_notebook(cells=[new_code_cell("print('hello')")]))


@student("Question without a mark")
def unmarked_question():
    notebook = without_marks(course.load(f"practice/{N2}"))
    i = next(i for i, cell in enumerate(notebook.cells) if "### Question 2.2" in cell.source)
    notebook.cells[i + 1] = new_markdown_cell("My answer: the gap, it depends on θ.")
    return notebook


def serialised(build):
    made = build()
    return made if isinstance(made, bytes) else nbformat.v4.writes(made).encode()


def hand_in(folder):
    """Write the class's work as learning platforms export it; returns the folder."""
    folder.mkdir()
    for i, (name, build) in enumerate(CLASS.items()):
        content = serialised(build)
        if i % 4 == 0:  # Moodle
            (folder / f"{name}_{1000 + i}_assignsubmission_file_").mkdir()
            (folder / f"{name}_{1000 + i}_assignsubmission_file_" / "my homework (1).ipynb").write_bytes(content)
        elif i % 4 == 1 and "_" not in name:  # Canvas
            (folder / f"{name}_{i}_{7000 + i}_homework-1.ipynb").write_bytes(content)
        elif i % 4 == 2:
            with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
                archive.writestr("homework/notebook.ipynb", content)
                archive.writestr("__MACOSX/homework/._notebook.ipynb", b"x")
        else:
            (folder / f"{name}.ipynb").write_bytes(content)
    (folder / "Only an essay").mkdir()
    (folder / "Only an essay" / "essay.pdf").write_bytes(b"%PDF")
    return folder


def run_grader(submissions, out, *more):
    return subprocess.run(
        [sys.executable, "-m", "tools.grading", submissions, "--out", out, "--seconds", str(SECONDS), *more],
        cwd=course.NOTEBOOKS.parent,
        env=os.environ | {"INSTRUCTOR_SECRET": "the password"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The folder with the grades of the whole class."""
    folder = tmp_path_factory.mktemp("class")
    run = run_grader(hand_in(folder / "submissions"), folder / "graded", "--seed", "autumn")
    assert run.returncode == 0, run.stderr
    (folder / "printed").write_text(run.stdout, encoding="utf-8")
    return folder


def table(graded):
    text = (graded / "graded" / "grades.csv").read_text(encoding="utf-8-sig")
    return {row["student"]: row for row in csv.DictReader(io.StringIO(text))}


def points(row, exercise):
    return next(value for title, value in row.items() if title.startswith(exercise))


def feedback(graded, name):
    text = (graded / "graded" / "feedback" / f"{name}.html").read_text(encoding="utf-8")
    return html.unescape(text)


def test_the_class_is_large_and_nobody_is_missing(graded):
    assert len(CLASS) >= 30
    assert set(table(graded)) == {*CLASS, "Only an essay"}


FULL = {N1: ("80", "20"), N2: ("70", "30"), N3: ("85", "15"), N4: ("85", "15")}
HONEST = [
    "Marks lost",
    "José Núñez Colab",
    "Cells twice",
    "Tests gone",
    "Answer in a new cell",
    "Helpers around",
    "Other words",
]


@pytest.mark.parametrize("name", [*(f"Right {notebook}" for notebook in FULL), *HONEST])
def test_right_work_gets_all_points_in_whatever_state_it_arrives(graded, name):
    row = table(graded)[name]
    assert (row["total"], row["to be read"]) == FULL[row["notebook"]], row["flags"]
    assert "look by hand" not in row["flags"]


@pytest.mark.parametrize("notebook", FULL)
def test_the_hand_out_as_given_gets_none(graded, notebook):
    row = table(graded)[f"Empty {notebook}"]
    assert (row["notebook"], row["total"], row["to be read"], row["flags"]) == (notebook, "0", "0", "")


def outcome(graded, name, exercise="Exercise 2.3"):
    """What is stored about one exercise of a student."""
    results = [Result.from_json(path.read_text(encoding="utf-8")) for path in (graded / "graded/results").iterdir()]
    (result,) = [result for result in results if result.student == name]
    return next(grade for grade in result.grades if grade.title.startswith(exercise))


def others_are_untouched(row):
    """2.4 uses the answer to 2.3, and is graded with ours where that is wrong."""
    return [points(row, f"Exercise 2.{i}") for i in (1, 2, 4, 5)] == ["15", "10", "15", "15"]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_work_costs_its_own_exercise_only_and_hears_what_the_check_says(graded, name):
    names = {}
    exec(f"def wrong(mu, logvar):\n{WRONG[name]}", names)
    with pytest.raises(CheckFailed) as caught:
        check.gaussian_kl(names["wrong"])
    assert (outcome(graded, name).score, outcome(graded, name).message) == (0, str(caught.value))
    assert others_are_untouched(table(graded)[name])
    assert str(caught.value) in feedback(graded, name)


@pytest.mark.parametrize(
    ("name", "cause"),
    {
        "Syntax": "This is not Python",
        "Endless": "Stopped after 20 seconds",
        "Endless, stubborn": "Stopped after 20 seconds",
        "Exits": "The kernel died",
        "Eats memory": "RuntimeError|The kernel died",
        "Fills the disk": "OSError",
        "Talks without end": "Stopped after 20 seconds|The kernel died",
        "Tests weakened": "look at the term in mu",
    }.items(),
)
def test_hostile_work_costs_its_own_exercise_only_and_hears_why(graded, name, cause):
    assert outcome(graded, name).score == 0
    assert re.search(cause, outcome(graded, name).message), outcome(graded, name).message
    assert others_are_untouched(table(graded)[name])


@pytest.mark.parametrize("name", ["Timed", "Captured", "Timed often", "Asks", "Shows", "Progress", "Installs"])
def test_what_notebooks_allow_around_a_right_answer_costs_nothing(graded, name):
    row = table(graded)[name]
    assert (row["total"], row["flags"]) == ("70", "")


@pytest.mark.parametrize("name", ["Shell script", "Needs what is gone"])
def test_an_answer_that_could_not_be_run_goes_to_a_person_with_a_flag(graded, name):
    assert outcome(graded, name).score is None
    assert "look by hand" in table(graded)[name]["flags"]
    assert others_are_untouched(table(graded)[name])


def test_a_wrong_answer_that_asks_something_gets_none(graded):
    assert outcome(graded, "Asks, wrongly").score == 0


@pytest.mark.parametrize("name", ["Endless", "Exits"])
def test_what_ended_a_kernel_is_flagged(graded, name):
    assert table(graded)[name]["flags"].count("gaussian_kl: ") == 1


@pytest.mark.parametrize(
    ("name", "noticed"),
    {
        "Swaps allclose": "torch.allclose",
        "Swaps the check": "probability_and_elbo.gaussian_kl",
        "Swaps code": "common.require",
    }.items(),
)
def test_replaced_functions_are_noticed_and_a_person_decides(graded, name, noticed):
    row = table(graded)[name]
    assert noticed in row["flags"]
    assert points(row, "Exercise 2.3") == ""


def test_an_answer_that_only_pleases_the_check_fails_the_hidden_test(graded):
    row = table(graded)["Looks at the check only"]
    assert points(row, "Exercise 2.3") == "0"
    assert "not the hidden test" in row["flags"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems can't confine a process like this")
def test_student_code_sees_no_secret_no_answer_and_no_tool(graded):
    if "student code could read" in (graded / "printed").read_text(encoding="utf-8"):
        pytest.skip("this Linux has no Landlock")
    assert points(table(graded)["Spies"], "Exercise 2.3") == "15"


@pytest.mark.parametrize(
    ("name", "why"),
    {
        "Empty file": "the file is empty",
        "Broken file": "not a notebook",
        "Other course": "no notebook of the course",
        "Only an essay": "only essay.pdf",
        "Renamed function": "no cell defines gaussian_kl: look by hand",
    }.items(),
)
def test_what_cannot_be_graded_is_left_to_a_person(graded, name, why):
    row = table(graded)[name]
    assert why in row["flags"]
    assert points(row, "Exercise 2.3") == ""
    assert why.split(":")[0] in feedback(graded, name) or name == "Renamed function"


def test_a_question_is_found_without_marks_and_waits_for_a_person(graded):
    row = table(graded)["Question without a mark"]
    assert [points(row, f"Question 2.{i}") for i in (1, 2, 3)] == ["0", "", "0"]
    assert row["to be read"] == "10"
    assert "it depends on θ" in feedback(graded, "Question without a mark")


def test_feedback_reads_offline_and_shows_no_rubric_before_a_person_has_graded(graded):
    page = feedback(graded, f"Right {N2}")
    assert "http" not in page
    assert "<script" not in page
    assert "earns points" not in page


def test_a_second_run_is_quick_and_keeps_what_a_person_wrote(graded):
    path = graded / "graded" / "grades.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    for row in rows:
        if row["student"] == f"Right {N2}":
            row["Question 2.1"], row["Question 2.2"] = "7", "8,5"
        if row["student"] == "Half missing":
            row["Exercise 2.3 gaussian_kl"] = "3"
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    for _ in range(2):
        run = run_grader(graded / "submissions", graded / "graded", "--seed", "autumn")
        assert f"{len(CLASS) + 1} notebooks, {len(CLASS) + 1} of them graded before" in run.stdout
    after = table(graded)
    assert (after[f"Right {N2}"]["total"], after[f"Right {N2}"]["to be read"]) == ("85.5", "10")
    assert points(after["Half missing"], "Exercise 2.3") == "3"
    assert "earns points" in feedback(graded, f"Right {N2}")
    assert after["Other words"]["total"] == "70"


def test_a_missing_folder_is_named(tmp_path):
    run = run_grader(tmp_path / "nowhere", tmp_path / "out")
    assert run.returncode == 2
    assert "is no folder: make grade SUBMISSIONS=folder" in run.stderr
    assert run_grader("", tmp_path / "out").returncode == 2


@pytest.mark.parametrize(
    "source", ["%matplotlib inline\nx = 1", "!ls\nx = 1", "%%time\nx = 1", "%%capture\n%%time\nx = 1"]
)
def test_cells_with_magics_are_understood(source):
    assert "x = 1" in python(source)
    assert python("x = = 1") == ""


def test_only_magics_that_run_the_cell_are_taken_off():
    assert unwrapped("%%bash\nls") == "%%bash\nls"
    assert unwrapped("\n%%timeit -n1\n%%time\nx = 1\n  !pip install y") == "x = 1\n  pass"


def test_where_a_process_cannot_be_confined_grading_goes_on(tmp_path):
    code = "import sys; sys.modules['landlock'] = None; from tools.grading import sandbox; print(sandbox.confine('.'))"
    run = subprocess.run([sys.executable, "-c", code], cwd=course.NOTEBOOKS.parent, capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr
