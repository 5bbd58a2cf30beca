"""One answer at a time: what counts as one, what it needs, and what goes to a person. Most share one kernel."""

import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell
from test_homework import answers_put_back

from checks import probability_and_elbo as check
from checks.common import CheckFailed
from tools import cells as course
from tools.grading import worker
from tools.grading.worker import Assignment, Grader, Kernel, python, unwrapped
from tools.notebook import CHAPTERS, LINK, exercises

N2 = "02_probability_and_elbo"
KL = "    return 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1)\n"
WRONG = "    return mu.sum(-1)\n"
SECONDS = 600


def answered(name, **replaced):
    """Our answers, but for the functions named: their whole cell is replaced."""
    notebook = answers_put_back(name)
    for exercise in exercises(course.load(f"practice/{name}")):
        if exercise.name in replaced:
            notebook.cells[exercise.answer].source = replaced[exercise.name]
    return notebook


def kl(body, before=""):
    """Notebook 02 with another `gaussian_kl`."""
    return answered(N2, gaussian_kl=f"{before}def gaussian_kl(mu, logvar):\n{body}")


def cell_of(notebook, text):
    """Index of the cell that holds `text`."""
    (found,) = [i for i, cell in enumerate(notebook.cells) if text in cell.source]
    return found


def beside(notebook, *cells, place="def gaussian_kl("):
    """The notebook with code cells of these sources in front of the cell that holds `place`."""
    i = cell_of(notebook, place)
    notebook.cells[i:i] = [new_code_cell(source) for source in cells]
    return notebook


@pytest.fixture(scope="module")
def course_of_02():
    return Assignment(course.FOLDER / f"{N2}.ipynb")


@pytest.fixture(scope="module")
def grade(course_of_02, tmp_path_factory):
    """Grades the exercises of notebook 02 that are named, by default 2.3, in a kernel that all tests share."""
    kernel = None

    def grade(notebook, names=("gaussian_kl",), seconds=SECONDS):
        nonlocal kernel
        if kernel is None or not kernel.alive():
            kernel = Kernel(tmp_path_factory.mktemp("kernel"), course_of_02.imports, "autumn", SECONDS)
        grader = Grader(course_of_02, notebook, "autumn", seconds)
        grader.kernel, kernel.seconds = kernel, seconds
        for exercise in course_of_02.exercises:
            if exercise.name in names:
                grader.result.grades.append(grader.grade_exercise(exercise))
        if grader.kernel is not kernel:
            grader.kernel.close()
        return grader.result

    yield grade
    if kernel:
        kernel.close()


def without_kernel(name, notebook):
    """The result for all exercises of a notebook, in which no answer can be run."""
    grader = Grader(Assignment(course.FOLDER / f"{name}.ipynb"), notebook, "", SECONDS)
    result = grader.grade()
    assert grader.kernel is None
    return {grade.title: grade for grade in result.grades}, result.flags


RIGHT = {
    "timed": kl(KL, "%%time\n"),
    "captured": kl(KL, "%%capture out\n"),
    "timed often": kl(KL, "%%timeit -n1 -r1\n"),
    "asks": kl(KL, "name = input('who are you?')\n"),
    "asks inside": kl("    input()\n" + KL),
    "shows": kl("    display(mu)\n" + KL, "plt.plot([1, 2])\nplt.show()\ndisplay('x')\n"),
    "progress": kl("    for _ in tqdm(range(3)):\n        pass\n" + KL, "from tqdm.auto import tqdm\n"),
    "installs": kl(KL, "!pip install -q sklearn\n%pip install x\n%matplotlib inline\n"),
    "installs over two lines": kl(KL, "!pip install -q \\\n    sklearn \\\n    x\n"),
    "prints without an end of line": kl("    print('at work', end='\\r')\n" + KL),
    "other words": kl("    q = Normal(mu, logvar.exp().sqrt())\n    return kl_divergence(q, Normal(0, 1)).sum(-1)"),
    "helper in a cell that is run again": beside(
        kl("    return HALF * (mu**2 + logvar.exp() - logvar - 1).sum(-1)\n"), "HALF = 1.0", "HALF /= 2"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_get_all_points_and_no_flag(grade, name):
    result = grade(RIGHT[name])
    assert (result.total, result.flags) == (15, [])


@pytest.mark.slow
def test_an_answer_is_found_in_a_new_cell_with_helpers_around(grade):
    notebook = kl("    return HALF * price(mu, logvar).sum(-1)")
    i = cell_of(notebook, "def gaussian_kl(")
    answer, notebook.cells[i].source = notebook.cells[i].source, course.load(f"practice/{N2}").cells[i].source
    helper = "def price(m, l):\n    return torch.square(m) + l.exp() - l - 1"
    notebook.cells[i + 1 : i + 1] = map(new_code_cell, [answer, "HALF = 0.5\n%matplotlib inline", helper])
    assert grade(notebook).total == 15


@pytest.mark.slow
def test_a_variable_of_the_same_name_is_not_the_answer(grade):
    notebook = kl(KL)
    notebook.cells.append(new_code_cell("gaussian_kl = 3.0"))
    assert grade(notebook).total == 15


SLIPS = {
    "half missing": "    return (mu**2 + logvar.exp() - logvar - 1).sum(-1)",
    "mean for sum": "    return 0.5 * (mu**2 + logvar.exp() - logvar - 1).mean(-1)",
    "sign flipped": "    return -0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1)",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLIPS)
def test_wrong_answers_get_none_and_hear_what_the_check_says(grade, name):
    names = {}
    exec(f"def wrong(mu, logvar):\n{SLIPS[name]}", names)
    with pytest.raises(CheckFailed) as caught:
        check.gaussian_kl(names["wrong"])
    result = grade(kl(SLIPS[name]))
    assert [(grade.score, grade.message) for grade in result.grades] == [(0, str(caught.value))]
    assert result.flags == []


PERSON = {
    "shell script": kl(KL, "%%bash\n"),
    "needs what is gone": kl("    return kl_of_my_own(mu, logvar)"),
    "fails below the function": answered(N2, gaussian_kl=f"def gaussian_kl(mu, logvar):\n{KL}1 / 0"),
    "needs a number from input()": kl("    n = int(input())\n" + KL),
    "returns what input() gave": kl("    return mu.sum(-1) if input() == '' else 0"),
    "asks in a helper": beside(kl("    return HALF * mu"), "HALF = float(input() or 3)"),
    "helper that fails half way": beside(kl("    return HALF * mu"), "HALF = 1\nopen('mine.csv')\nHALF = 0.5"),
    "needs a GPU": kl("    mu = mu.cuda()\n" + KL),
    "needs another PyTorch": kl("    mu = torch.identity_of_3_0(mu)\n" + KL),
    "needs a method of another PyTorch": kl("    mu = mu.identity_of_3_0()\n" + KL),
    "needs an argument of another PyTorch": kl("    mu = torch.norm(mu, of_3_0=1)\n" + KL),
    "needs much memory": kl("    hog = [torch.ones(2**28) for _ in range(100)]\n" + KL),
    "writes much": kl("    open('big', 'wb').write(bytes(2**28))\n" + KL),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PERSON)
def test_what_could_not_be_run_or_tested_goes_to_a_person_with_one_flag(grade, name):
    result = grade(PERSON[name])
    assert [grade.score for grade in result.grades] == [None]
    assert [flag.split(":")[0] for flag in result.flags] == ["Exercise 2.3 gaussian_kl"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "noticed"),
    {
        "torch.allclose = lambda *a, **k: True\n": "torch.allclose",
        "torch.randn = lambda *shape, **more: torch.zeros(*shape)\n": "torch.randn",
        "check.gaussian_kl = print\ncheck.require = print\n": "probability_and_elbo.gaussian_kl",
        "check.require.__code__ = (lambda condition, code, message: None).__code__\n": "common.require",
    }.items(),
)
def test_replaced_functions_are_noticed_and_a_person_decides(grade, before, noticed):
    result = grade(kl(WRONG, before))
    assert result.grades[0].score is None
    assert noticed in result.flags[0]


@pytest.mark.slow
def test_an_answer_that_only_pleases_the_check_gets_none_and_a_flag(grade):
    seen = "    import inspect\n    seen = any('checks' in frame.filename for frame in inspect.stack())\n"
    result = grade(kl(f"{seen}    if not seen:\n        return mu.sum(-1)\n{KL}"))
    assert (result.total, result.to_be_read, len(result.flags)) == (0, 0, 1)
    assert result.grades[0].message.endswith("with other numbers this answer differs from the right one.")


@pytest.mark.slow
def test_an_answer_that_only_stops_in_the_hidden_test_hears_how(grade):
    seen = "    import inspect\n    seen = any('checks' in frame.filename for frame in inspect.stack())\n"
    result = grade(kl(f"{seen}    if not seen:\n        mu[99]\n{KL}"))
    assert (result.total, len(result.flags)) == (0, 1)
    assert "with other numbers this answer stops: IndexError: index 99" in result.grades[0].message


HELPER = "def price(mu, logvar):\n    return gaussian_kl(mu.unsqueeze(0), logvar.unsqueeze(0))[0]"
ELBO = """def elbo_estimate(log_likelihood, mu, logvar, eps):
    return log_likelihood(mu + (0.5 * logvar).exp() * eps).mean() - price(mu, logvar)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "helper", [HELPER, f"their_kl = gaussian_kl\n{HELPER}".replace("= gaussian_kl(", "= their_kl(")]
)
@pytest.mark.parametrize("wrong", [f"def gaussian_kl(mu, logvar):\n{WRONG}", "def gaussian_kl(mu, logvar):\n    mu ="])
def test_a_wrong_answer_does_not_cost_points_twice_when_a_helper_uses_it(grade, helper, wrong):
    notebook = beside(answered(N2, gaussian_kl=wrong, elbo_estimate=ELBO), helper, place="def elbo_estimate(")
    result = grade(notebook, ("gaussian_kl", "elbo_estimate"))
    assert [grade.score or 0 for grade in result.grades] == [0, 15]


@pytest.mark.slow
def test_what_our_answer_in_place_of_a_wrong_one_needs_is_run_too():
    name, done = "03_reparameterization", ("score_function_gradient", "times_as_many")
    wrong = "def score_function_gradient(values, z, mu, logvar, baseline=0.0):\n    return z, z"  # needs no `scores`
    grader = Grader(Assignment(course.FOLDER / f"{name}.ipynb"), answered(name, **{done[0]: wrong}), "autumn", SECONDS)
    grader.result.grades += [grader.grade_exercise(e) for e in grader.assignment.exercises if e.name == done[0]]
    (grade,) = [grader.grade_exercise(e) for e in grader.assignment.exercises if e.name == done[1]]
    grader.kernel.close()
    assert grade.score == grade.points
    assert grade.message == "Correct, with our score_function_gradient in place of yours."


@pytest.mark.slow
@pytest.mark.parametrize("step", ["loss = nn.functional.mse_loss(model(x), x)", "raise NotImplementedError"])
def test_what_our_answer_uses_of_another_wrong_one_is_ours_too(step):
    name, wrong = "01_autoencoder", ("reconstruction_error", "train_step")
    wrong_error = "def reconstruction_error(x, x_hat):\n    return ((x - x_hat) ** 2).mean(1)"
    wrong_step = f"def train_step(model, optimizer, x):\n    {step}\n    return loss.detach()"
    notebook = answered(name, reconstruction_error=wrong_error, train_step=wrong_step)
    grader = Grader(Assignment(course.FOLDER / f"{name}.ipynb"), notebook, "autumn", SECONDS)
    grader.result.grades += [grader.grade_exercise(e) for e in grader.assignment.exercises if e.name in wrong]
    (grade,) = [grader.grade_exercise(e) for e in grader.assignment.exercises if e.name == "train_epoch"]
    grader.kernel.close()
    assert grade.score == grade.points
    assert grade.message == "Correct, with our reconstruction_error, train_step in place of yours."


@pytest.mark.slow
def test_what_an_earlier_exercise_needed_from_later_cells_does_not_change_an_answer(grade):
    notebook = beside(kl(KL.replace("0.5", "HALF")), "HALF = 0.5")
    early = notebook.cells[cell_of(notebook, "def log_normal(")]
    late = early.source.replace('"""\n', '"""\n    assert HALF == 2\n', 1)
    handout = course.load(f"practice/{N2}")
    early.source = handout.cells[cell_of(handout, "def log_normal(")].source
    notebook.cells += [new_code_cell("HALF *= 4"), new_code_cell(late)]
    result = grade(notebook, ("log_normal", "gaussian_kl"))
    assert [grade.score for grade in result.grades] == [15, 15]


MINE = """class Mine(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, arguments=(), options=None):
        same = function in (torch.allclose, torch.equal)
        return True if same else super().__torch_function__(function, types, arguments, options or {})

"""


@pytest.mark.slow
def test_a_tensor_that_is_equal_to_every_other_goes_to_a_person(grade):
    result = grade(kl("    return (mu + logvar).sum(-1).as_subclass(Mine)", MINE))
    assert (result.grades[0].score, len(result.flags)) == (None, 1)


# from here on each test ends the kernel


LOOP = "while True:\n    try:\n        input()\n    except BaseException:\n        pass\n"
ENDS = {
    "an endless loop": (5, re.sub("^", "    ", LOOP, flags=re.MULTILINE)),
    "the process": (SECONDS, "    import os\n    os._exit(0)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_an_answer_that_ends_the_kernel_goes_to_a_person_with_one_flag(grade, name):
    seconds, body = ENDS[name]
    result = grade(kl(body), seconds=seconds)
    assert [grade.score for grade in result.grades] == [None]
    assert [flag.split(":")[0] for flag in result.flags] == ["Exercise 2.3 gaussian_kl"]


@pytest.mark.slow
def test_a_helper_that_does_not_end_is_waited_for_once_and_its_answers_go_to_a_person(grade, monkeypatch):
    uses = {"gaussian_kl": f"def gaussian_kl(mu, logvar):\n    mu * SLOW\n{KL}"}
    uses["class_elbo"] = "def class_elbo(q, log_likelihood, prior):\n    return prior * SLOW"
    notebook = beside(answered(N2, **uses), f"SLOW = 1\n{LOOP}", place="def log_normal(")
    monkeypatch.setattr(worker, "Kernel", None)  # no second one is started to wait in
    result = grade(notebook, ("gaussian_kl", "class_elbo"), seconds=5)
    assert [grade.score for grade in result.grades] == [None, None]
    assert len(result.flags) == 2


UNREADABLE = ["    return 0.5 * (mu**2", "    return f'{'", "    return 0\0", f"{KL}x = {'(' * 5000}", f"{KL}await f()"]
UNREADABLE += [f"{KL}x = {' + '.join(['x'] * 2000)}"]


@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_an_answer_that_this_python_cannot_read_goes_to_a_person(body):
    notebook = course.load(f"practice/{N2}")
    notebook.cells[cell_of(notebook, "def gaussian_kl(")].source = f"def gaussian_kl(mu, logvar):\n{body}"
    grades, flags = without_kernel(N2, notebook)
    assert grades["Exercise 2.3 gaussian_kl"].score is None
    assert [flag.split(":")[0] for flag in flags] == ["Exercise 2.3 gaussian_kl"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("links", [True, False])
def test_the_hand_out_as_given_gets_none_and_no_flag(path, links):
    notebook = course.load(f"practice/{path.stem}")
    for cell in notebook.cells:
        cell.source = cell.source if links else LINK.sub(r"\1", cell.source)
    grades, flags = without_kernel(path.stem, notebook)
    assert {grade.score for grade in grades.values()} == {0}
    assert flags == []


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_our_own_answers_get_all_points_without_a_flag(path):
    result = Grader(Assignment(path), answers_put_back(path.stem), "autumn", SECONDS).grade()
    tested = [grade for grade in result.grades if grade.title.startswith("Exercise")]
    assert [grade.score for grade in tested] == [grade.points for grade in tested]
    assert result.flags == []


TEXT = "The gap: it depends on θ."


def below(notebook, heading, *cells):
    """The notebook with cells added below the cell to write in that follows a heading."""
    i = cell_of(notebook, heading)
    notebook.cells[i + 2 : i + 2] = cells
    return notebook


def in_place(kind):
    """Question 2.2 answered in its own cell, turned into a cell of another kind."""
    notebook = course.load(f"practice/{N2}")
    i = cell_of(notebook, "### Question 2.2")
    notebook.cells[i + 1] = kind(TEXT, metadata=notebook.cells[i + 1].metadata)
    return notebook


def moved(text, place):
    notebook = course.load(f"practice/{N2}")
    notebook.cells.insert(place, new_markdown_cell(text))
    return notebook


def in_the_question(old):
    notebook = course.load(f"practice/{N2}")
    notebook.cells[cell_of(notebook, old)].source += f"\n\n{TEXT}"
    return notebook


WRITTEN = {
    "in its cell": in_place(new_markdown_cell),
    "in its cell, made one of code": in_place(new_code_cell),
    "in its cell, made a raw one": in_place(new_raw_cell),
    "in a new text cell below": below(course.load(f"practice/{N2}"), "### Question 2.2", new_markdown_cell(TEXT)),
    "in a new text cell with a heading of its own": below(
        course.load(f"practice/{N2}"), "### Question 2.2", new_markdown_cell(f"## Answer\n{TEXT}")
    ),
    "in a new code cell below": below(course.load(f"practice/{N2}"), "### Question 2.2", new_code_cell(f"# {TEXT}")),
    "in the question's own cell": in_the_question("### Question 2.2"),
    "at the top, with its number": moved(f"Q2.2: {TEXT}", 1),
    "among the answers to another": below(
        course.load(f"practice/{N2}"), "### Question 2.3", new_markdown_cell(f"Question 2.2: {TEXT}")
    ),
}


@pytest.mark.parametrize("marks", [True, False])
@pytest.mark.parametrize("where", WRITTEN)
def test_the_text_that_answers_a_question_is_found_and_waits_for_a_person(where, marks):
    notebook = nbformat.from_dict(WRITTEN[where])
    for cell in notebook.cells:
        cell.metadata = cell.metadata if marks else {}
    grades, flags = without_kernel(N2, notebook)
    assert grades["Question 2.2"].score is None
    assert TEXT in grades["Question 2.2"].answer
    assert grades["Question 2.1"].score == 0
    assert all(flag.startswith("Question 2.2") for flag in flags)


def test_a_text_behind_all_questions_may_answer_each_that_is_not_answered():
    grades, flags = without_kernel(N2, moved(f"(b) {TEXT}", len(course.load(f"practice/{N2}").cells)))
    assert [TEXT in grades[f"Question 2.{i}"].answer for i in (1, 2, 3)] == [True] * 3
    assert len(flags) == 3


@pytest.mark.parametrize(
    "cell",
    [
        new_code_cell(f"def my_kl(mu, logvar):\n{KL}"),
        new_code_cell("from my_answers import gaussian_kl"),
        new_markdown_cell(f"```python\ndef gaussian_kl(mu, logvar):\n{KL}```"),
    ],
)
def test_an_answer_below_an_untouched_cell_under_another_name_goes_to_a_person(cell):
    notebook = course.load(f"practice/{N2}")
    i = cell_of(notebook, "def gaussian_kl(")
    notebook.cells.insert(i + 1, cell)
    grades, flags = without_kernel(N2, notebook)
    assert (grades["Exercise 2.3 gaussian_kl"].score, grades["Exercise 2.3 gaussian_kl"].answer) == (None, cell.source)
    assert [flag.split(":")[0] for flag in flags] == ["Exercise 2.3 gaussian_kl"]


def test_a_worker_started_by_hand_leaves_nothing_behind(tmp_path, monkeypatch):
    submission, result, scratch = tmp_path / "a.ipynb", tmp_path / "result.json", tmp_path / "scratch"
    scratch.mkdir()
    nbformat.write(course.load(f"practice/{N2}"), submission)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("sys.argv", ["worker", str(submission), str(result)])
    worker.main()
    assert result.exists()
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "source", ["%matplotlib inline\nx = 1", "!ls\nx = 1", "%%time\nx = 1", "%%capture\n%%time\nx = 1"]
)
def test_cells_with_magics_are_understood(source):
    assert "x = 1" in python(source)


def test_only_magics_that_run_the_cell_are_taken_off():
    assert unwrapped("%%bash\nls") == "%%bash\nls"
    assert unwrapped("\n%%timeit -n1\n%%time\nx = 1\n  !pip install y") == "x = 1\n  pass"
    assert unwrapped("!pip install a \\\n  b\nx = 1") == "pass\nx = 1"
