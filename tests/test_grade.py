"""A mock class hands in right, wrong, mangled and hostile files; all get their due, none harms another."""

import csv
import html
import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from test_homework import answers_put_back
from test_worker import KL, N2, kl

from tools import cells as course
from tools.grading.__main__ import kernel_server
from tools.grading.result import Result
from tools.grading.worker import Assignment, Kernel, Ran

pytestmark = pytest.mark.slow

N1, N3, N4 = "01_autoencoder", "03_reparameterization", "04_vae"
SECONDS = 600
CLASS = {}  # student: what builds the notebook, or the bytes, that the student hands in


def student(name):
    """Enrol what the function returns, under the student's name."""

    def enrol(build):
        CLASS[name] = build
        return build

    return enrol


def without_marks(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("nbgrader", None)
    return notebook


student(f"Right {N2}")(lambda: answers_put_back(N2))
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


@student("Tests gone")
def deleted_tests():
    notebook = answers_put_back(N1)
    notebook.cells = [c for c in notebook.cells if not c.metadata.get("nbgrader", {}).get("locked")]
    return notebook


@student("Tests weakened")
def edited_tests():
    notebook = kl("    return 0 * mu.sum(-1)")
    notebook.cells = [copy for cell in notebook.cells for copy in (cell, nbformat.from_dict(cell))]
    for cell in notebook.cells:
        if "check.gaussian_kl(" in cell.source:
            cell.source = "print('Correct.')"
    return notebook


student("Exits")(lambda: kl("    import os\n    os._exit(0)"))
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
    paths = [course.FOLDER / f"{N2}.ipynb", course.COURSE / "tools" / "grading" / "guard.py"]
    assert all(path.exists() for path in paths)
    spy = SPY.replace("PATHS", repr([*map(str, paths)])) + "assert not look(), f'I see {look()}'\n"
    return kl(KL, before=spy)


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
        cwd=course.FOLDER.parent,
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


def test_nobody_is_missing(graded):
    assert set(table(graded)) == {*CLASS, "Only an essay"}


FULL = {N1: ("80", "20"), N2: ("70", "30"), N3: ("75", "25"), N4: ("85", "15")}


@pytest.mark.parametrize("name", [f"Right {N2}", "Marks lost", "José Núñez Colab", "Tests gone"])
def test_right_work_gets_all_points_in_whatever_state_it_arrives(graded, name):
    row = table(graded)[name]
    assert (row["total"], row["to be read"]) == FULL[row["notebook"]], row["flags"]
    assert ("Exercise" in row["flags"]) == (name == "Tests gone")


def stored(graded, name):
    """What is stored about a student."""
    results = [Result.from_json(path.read_text(encoding="utf-8")) for path in (graded / "graded/results").iterdir()]
    (result,) = [result for result in results if result.student == name]
    return result


@pytest.mark.parametrize(("name", "score"), [("Tests weakened", 0), ("Exits", None)])
def test_wrong_and_hostile_work_costs_its_own_exercise_only_and_hears_why(graded, name, score):
    (grade,) = [grade for grade in stored(graded, name).grades if grade.title == "Exercise 2.3 gaussian_kl"]
    assert grade.score == score
    assert grade.message
    assert grade.message in feedback(graded, name)
    row = table(graded)[name]  # 2.4 uses the answer to 2.3, and is graded with ours where that is wrong
    assert [points(row, f"Exercise 2.{i}") for i in (1, 2, 4, 5)] == ["15", "10", "15", "15"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems can't confine a process like this")
def test_student_code_sees_no_secret_no_answer_and_no_tool(graded):
    if "student code could read" in (graded / "printed").read_text(encoding="utf-8"):
        pytest.skip("this Linux has no Landlock")
    assert points(table(graded)["Spies"], "Exercise 2.3") == "15"


@pytest.mark.parametrize("name", ["Empty file", "Broken file", "Other course", "Only an essay"])
def test_what_cannot_be_graded_is_left_to_a_person(graded, name):
    result = stored(graded, name)
    assert (result.status, result.grades, table(graded)[name]["flags"]) == ("refused", [], result.flags[0])
    assert points(table(graded)[name], "Exercise 2.3") == ""
    assert result.flags[0] in feedback(graded, name)


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
        if row["student"] == "Tests weakened":
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
    assert points(after["Tests weakened"], "Exercise 2.3") == "3"
    assert "earns points" in feedback(graded, f"Right {N2}")
    assert after["Marks lost"]["total"] == "85"


def test_a_missing_folder_is_named(tmp_path):
    run = run_grader(tmp_path / "nowhere", tmp_path / "out")
    assert run.returncode == 2
    assert "is neither a folder nor a zip: make grade SUBMISSIONS=folder" in run.stderr
    assert run_grader("", tmp_path / "out").returncode == 2


def test_where_a_process_cannot_be_confined_grading_goes_on(tmp_path):
    code = "import sys; sys.modules['landlock'] = None; from tools.grading import sandbox; print(sandbox.confine('.'))"
    run = subprocess.run([sys.executable, "-c", code], cwd=course.FOLDER.parent, capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


START = 'import os, subprocess\nprint(os.getpid(), subprocess.Popen(["sleep", "600"]).pid)'
ORDERS = """import socket
for i in range(256):
    try:
        with socket.socket(fileno=os.dup(i)) as found:
            if found.type == socket.SOCK_SEQPACKET:
                print("a kernel could be ordered here")
    except OSError:
        pass"""
LISTEN = """import zmq
ear = zmq.Context().socket(zmq.SUB)
ear.subscribe(b"")
ear.connect("ipc://PATH")"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no kernel is forked")
def test_forked_kernels_share_nothing_cannot_order_others_and_end_with_all_that_they_started(tmp_path):
    imports = Assignment(course.FOLDER / f"{N2}.ipynb").imports
    with kernel_server() as server:
        one, other = (Kernel(tmp_path / seed, imports, seed, SECONDS, server) for seed in ("spring", "autumn"))
        processes = [Path("/proc") / pid for kernel in (one, other) for pid in kernel.run(START).output.split()]
        assert all(process.exists() for process in processes)
        assert one.run(ORDERS) == Ran()
        assert one.run("assert os.getcwd() == os.environ['HOME']; print(os.getcwd())").output == f"{tmp_path}/spring\n"
        assert one.run("import tempfile; tempfile.TemporaryFile().write(b'x')").error == ""
        assert one.run("assert os.getsid(0) == os.getpid()  # it has no terminal") == Ran()
        assert other.run("print(os.environ['VAE_COURSE_SEED'])").output == "autumn\n"
        one.run("mine = 1")
        assert other.run("mine").error == "NameError"
        assert other.run(LISTEN.replace("PATH", f"{tmp_path}/spring/kernel-{one.manager.iopub_port}")) == Ran()
        assert one.run("print('mine')").output == "mine\n"
        assert other.run("print(ear.poll(1000))").output == "0\n"
        one.close()
        assert other.run("os._exit(1)").error == "DeadKernelError"
        end = time.monotonic() + 300
        while any(map(running, processes)) and time.monotonic() < end:
            time.sleep(0.1)
        assert not any(map(running, processes))


def running(process):
    """Whether the process with this folder in /proc is more than a dead one that nobody has asked about."""
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except OSError:
        return False
