"""The grade book: what a person wrote is kept, resubmissions count, a repaired test grades again."""

import csv
import io
import re
import sys
from contextlib import nullcontext
from itertools import count, permutations
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.grading import __main__ as command
from tools.grading.book import Book
from tools.grading.collect import Submission
from tools.grading.result import Grade, Result
from tools.grading.worker import version
from tools.notebook import CHAPTERS, COURSE, write_whole

N1 = "01_autoencoder"
TITLE = "Exercise 1.1 reconstruction_error"


def result(score, student="Ada", status="graded", title=TITLE):
    return Result(status, N1, [Grade(title, 15, score, "")], student=student, version="1")


def handed_in(**attempts):
    return {key: Submission("Ada", f"{key}.ipynb", attempt=str(attempt)) for key, attempt in attempts.items()}


def rows(folder):
    text = (folder / "grades.csv").read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def write(folder, entry, title=TITLE, delimiter=","):
    """What a person writes into the table, in an editor that may use another delimiter."""
    lines = rows(folder)
    lines[0][title] = entry
    text = io.StringIO()
    table = csv.DictWriter(text, lines[0], delimiter=delimiter)
    table.writeheader()
    table.writerows(lines)
    (folder / "grades.csv").write_text(text.getvalue(), encoding="utf-8")


def run(folder, results, submissions):
    """One run of the grader, which finds these results."""
    book = Book(folder)
    for key, made in results.items():
        book.add(key, made)
    book.save(submissions)
    (line,) = rows(folder)
    return line


@pytest.mark.parametrize("keys", list(permutations("abc")))
def test_the_third_version_counts_whatever_came_before(tmp_path, keys):
    for attempt, (key, score) in enumerate(zip(keys, (15.0, 0.0, 15.0), strict=True)):
        line = run(tmp_path, {key: result(score)}, handed_in(**{key: attempt}))
        assert (line[TITLE], line["total"], line["flags"]) == (f"{score:g}", f"{score:g}", "")


@pytest.mark.parametrize("keys", list(permutations("abc")))
def test_of_attempts_that_lie_side_by_side_the_latest_counts_and_names_the_others(tmp_path, keys):
    scores = dict(zip(keys, (15.0, 0.0, 7.0), strict=True))
    submissions = handed_in(**dict(zip(keys, (1, 2, 3), strict=True)))
    line = run(tmp_path, {key: result(score) for key, score in scores.items()}, submissions)
    assert line[TITLE] == "7"
    first, second, third = keys
    assert line["flags"] == f"{third}.ipynb counts, the latest; not: {first}.ipynb, {second}.ipynb"


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_person_s_entry_outlives_runs_and_new_versions(tmp_path, delimiter):
    run(tmp_path, {"a": result(0.0)}, handed_in(a=1))
    write(tmp_path, "8,5", delimiter=delimiter)
    assert run(tmp_path, {}, handed_in(a=1))[TITLE] == "8.5"
    line = run(tmp_path, {"b": result(15.0)}, handed_in(b=2))
    assert (line[TITLE], line["flags"]) == ("8.5", f"{TITLE}: 8.5 by hand, 15 by the tests")
    assert run(tmp_path, {"c": result(0.0)}, handed_in(c=3))[TITLE] == "8.5"


def test_a_person_s_entry_that_the_tests_come_to_later_stays_a_person_s(tmp_path):
    run(tmp_path, {"a": result(0.0)}, handed_in(a=1))
    write(tmp_path, "15")
    run(tmp_path, {"b": result(15.0)}, handed_in(b=2))
    assert run(tmp_path, {"c": result(0.0)}, handed_in(c=3))[TITLE] == "15"


def test_what_was_written_before_others_came_of_that_name_is_shown_to_both(tmp_path):
    run(tmp_path, {"a": result(0.0)}, handed_in(a=1))
    write(tmp_path, "8")
    book = Book(tmp_path)
    submissions = {key: Submission(f"Ada ({key})", "a.ipynb") for key in "bc"} | {"d": Submission("Eve (1)", "a.ipynb")}
    for key, submission in submissions.items():
        book.add(key, result(0.0, student=submission.student))
    book.save(submissions)
    shown = f"given by hand to Ada when there was only one, for the right row: {TITLE}: 8"
    assert [line["flags"] for line in rows(tmp_path)] == [shown, shown, ""]
    assert run(tmp_path, {}, handed_in(a=1))[TITLE] == "8"


def test_an_entry_that_is_deleted_gives_the_tests_their_say(tmp_path):
    run(tmp_path, {"a": result(0.0)}, handed_in(a=1))
    write(tmp_path, "8")
    run(tmp_path, {}, handed_in(a=1))
    write(tmp_path, "")
    assert run(tmp_path, {}, handed_in(a=1))[TITLE] == "0"


@pytest.mark.parametrize("entry", ["nan", "inf", "-5", "1e9", "15.1", "good"])
def test_what_is_no_number_of_points_is_flagged_and_what_stood_there_stays(tmp_path, entry):
    run(tmp_path, {"a": result(2.0)}, handed_in(a=1))
    write(tmp_path, entry)
    line = run(tmp_path, {}, handed_in(a=1))
    assert (line[TITLE], line["total"]) == ("2", "2")
    assert line["flags"] == f"{TITLE}: {entry!r} is not from 0 to 15"
    write(tmp_path, "8")
    run(tmp_path, {}, handed_in(a=1))
    write(tmp_path, entry)
    assert run(tmp_path, {}, handed_in(a=1))[TITLE] == "8"


def test_a_run_that_is_killed_between_its_files_takes_no_points_for_a_person_s(tmp_path, monkeypatch):
    run(tmp_path, {"a": result(15.0)}, handed_in(a=1))

    def killed(path, data):
        if path.name == "grades.csv":
            raise KeyboardInterrupt
        write_whole(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("tools.grading.book.write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, {"b": result(0.0)}, handed_in(b=2))
    assert rows(tmp_path)[0][TITLE] == "15"
    assert run(tmp_path, {}, handed_in(b=2))[TITLE] == "0"


@pytest.mark.parametrize("entry", ["15.0", "15,00", " 15 "])
def test_numbers_that_a_spreadsheet_has_written_in_another_way_are_no_person_s(tmp_path, entry):
    run(tmp_path, {"a": result(15.0)}, handed_in(a=1))
    write(tmp_path, entry)
    line = run(tmp_path, {"b": result(2.0)}, handed_in(b=2))
    assert (line[TITLE], line["flags"]) == ("2", "")


def test_what_a_person_writes_while_a_run_is_going_is_kept(tmp_path):
    book = Book(tmp_path)
    for key, score, entry in [("a", 0.0, "8"), ("b", 15.0, "nan"), ("c", 2.0, "")]:
        book.add(key, result(score))
        book.save(handed_in(**{key: 1}))
        write(tmp_path, entry or rows(tmp_path)[0][TITLE])
    line = run(tmp_path, {}, handed_in(c=1))
    assert (line[TITLE], line["flags"]) == ("8", f"{TITLE}: 8 by hand, 2 by the tests")


def test_a_table_that_was_opened_before_a_part_of_the_run_brings_no_old_points_back(tmp_path):
    run(tmp_path, {"a": result(0.0)}, handed_in(a=1))
    opened = (tmp_path / "grades.csv").read_bytes()
    book = Book(tmp_path)
    book.add("b", result(15.0))
    book.save(handed_in(b=2))
    (tmp_path / "grades.csv").write_bytes(opened)
    book.save(handed_in(b=2))
    assert rows(tmp_path)[0][TITLE] == "15"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_table_in_another_encoding_is_refused_with_its_name_and_left_as_it_is(
    tmp_path, encoding, monkeypatch, capsys
):
    run(tmp_path, {"a": result(0.0, student="Núñez")}, {"a": Submission("Núñez", "a.ipynb")})
    path = tmp_path / "grades.csv"
    path.write_bytes(path.read_text(encoding="utf-8-sig").replace(",0,", ",8,").encode(encoding))
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["grade", str(tmp_path), "--out", str(tmp_path)])
    assert command.main() == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_bytes() == before


def test_two_students_with_the_same_text_are_flagged_and_one_with_two_attempts_is_not(tmp_path):
    def answered(student, text, notebook=N1):
        question = Grade("Question 1.1", 10, None, "", text, "rubric")
        return Result("graded", notebook, [question], student=student, version="1")

    book = Book(tmp_path)
    for key, made in {"a": ("Ada", "Yes."), "b": ("Bob", "No."), "c": ("Cem", "Yes."), "d": ("Ada", "Yes.")}.items():
        book.add(key, answered(*made))
    book.add("e", answered("Eve", "Yes.", "02_probability_and_elbo"))
    book.save({key: Submission(made.student, f"{key}.ipynb", attempt=key) for key, made in book.results.items()})
    flags = [line["flags"] for line in rows(tmp_path)]
    assert ["Cem" in flags[0], "Bob" in flags[0], flags[1], "Ada" in flags[2], flags[3]] == [True, False, "", True, ""]


def test_points_of_a_question_are_a_person_s(tmp_path):
    title = "Question 1.1"
    run(tmp_path, {"a": result(None, title=title)}, handed_in(a=1))
    write(tmp_path, "7", title)
    line = run(tmp_path, {}, handed_in(a=1))
    assert (line[title], line["total"], line["to be read"], line["flags"]) == ("7", "7", "0", "")


def test_the_grader_s_own_failure_is_tried_again(tmp_path):
    Book(tmp_path).add("key", result(0.0, status="failed"))
    assert Book(tmp_path).results == {}
    Book(tmp_path).add("key", result(0.0))
    assert Book(tmp_path).results["key"] == result(0.0)


def test_a_result_that_is_not_whole_is_graded_again(tmp_path):
    Book(tmp_path).add("key", result(0.0))
    (tmp_path / "results" / "key.json").write_text('{"status": "graded"}', encoding="utf-8")
    assert Book(tmp_path).results == {}


def test_the_version_knows_tests_and_answers_and_no_outputs(tmp_path):
    path = next(path for path in CHAPTERS if path.stem == N1)
    for old, new, same in [
        ('"execution_count": 5', '"execution_count": 6', True),
        ("### BEGIN HIDDEN TESTS", '### BEGIN HIDDEN TESTS\\n",\n    "assert True', False),
    ]:
        text = path.read_text(encoding="utf-8")
        assert old in text
        changed = tmp_path / path.name
        changed.write_text(text.replace(old, new, 1), encoding="utf-8")
        assert (version(changed) == version(path)) == same


def test_the_version_knows_every_file_that_gives_points(monkeypatch):
    read, content = set(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.add(path) or content(path))
    version(next(path for path in CHAPTERS if path.stem == N1))
    loaded = {module.__file__ for name, module in sys.modules.items() if name.startswith("tools.grading.")}
    checks = {COURSE / "checks" / name for name in ("common.py", "autoencoder.py")}
    assert {COURSE / "tools" / "notebook.py", *checks, *map(Path, loaded)} <= read


def grade_folder(monkeypatch, tmp_path, submissions, results):
    """One run of the command, which finds these submissions, and in the graders' place these results by name."""
    asked = []

    def grade(submission, *settings):
        asked.append(submission.name)
        return results[submission.name]

    monkeypatch.setattr(command, "collect", lambda folder: submissions)
    monkeypatch.setattr(command, "grade", grade)
    monkeypatch.setattr(command, "kernel_server", nullcontext)
    monkeypatch.setattr("sys.argv", ["grade", str(tmp_path), "--out", str(tmp_path / "graded"), "--jobs", "1"])
    assert command.main() == 0
    return asked


def test_of_equal_files_the_latest_attempt_counts(tmp_path, monkeypatch):
    again = [Submission("Ada", "right.ipynb", attempt="3"), Submission("Ada", "right.ipynb", attempt="1")]
    submissions = [again[0], Submission("Ada", "wrong.ipynb", attempt="2"), again[1]]
    grade_folder(monkeypatch, tmp_path, submissions, {"right.ipynb": result(15.0), "wrong.ipynb": result(0.0)})
    assert rows(tmp_path / "graded")[0][TITLE] == "15"


def test_progress_says_how_many_are_done_and_how_long_the_rest_will_take(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=count(step=60).__next__))  # a minute for each
    submissions = [Submission(name, f"{name}.ipynb") for name in ("Ada", "Eve", "Tim")]
    results = {one.name: result(15.0, student=one.student) for one in submissions}
    grade_folder(monkeypatch, tmp_path, submissions, results)
    shown = re.findall(r"^\[(.*)\]", capsys.readouterr().out, re.MULTILINE)
    assert shown == [f"{done}/3, about {3 - done} min left" for done in (1, 2, 3)]


def test_a_refused_file_is_tried_again_when_the_grader_has_changed_and_not_before(tmp_path, monkeypatch):
    submissions, refused = [Submission("Ada", "a.ipynb")], {"a.ipynb": Result("refused", student="Ada")}
    asked = []
    for changed in ("", "", "changed"):
        monkeypatch.setattr(command, "version", lambda *path, changed=changed: changed + version(*path))
        asked.append(grade_folder(monkeypatch, tmp_path, submissions, refused))
    assert asked == [["a.ipynb"], [], ["a.ipynb"]]


def test_a_table_that_becomes_unreadable_meanwhile_stops_the_run_and_loses_nothing(tmp_path, monkeypatch):
    def grade(submission, *settings):
        write_whole(tmp_path / "graded" / "grades.csv", "somebody,wrote,this\n")
        return result(15.0)

    monkeypatch.setattr(command, "collect", lambda folder: [Submission("Ada", "a.ipynb")])
    monkeypatch.setattr(command, "grade", grade)
    monkeypatch.setattr(command, "kernel_server", nullcontext)
    monkeypatch.setattr("sys.argv", ["grade", str(tmp_path), "--out", str(tmp_path / "graded")])
    assert command.main() == 130
    assert "somebody" in (tmp_path / "graded" / "grades.csv").read_text(encoding="utf-8")
    (tmp_path / "graded" / "grades.csv").unlink()
    assert len(Book(tmp_path / "graded").results) == 1
