"""The grade book: what a person wrote is kept, resubmissions count, a repaired test grades again."""

import csv
import io
from itertools import permutations

import pytest

from tools.grading.book import Book
from tools.grading.collect import Submission
from tools.grading.result import Grade, Result
from tools.grading.worker import version
from tools.notebook import CHAPTERS

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
    before = (tmp_path / "grades.csv").read_bytes()
    book = Book(tmp_path)
    book.add("b", result(0.0))
    book._remember([*book.written[-1:], {"Ada / 01_autoencoder": {TITLE: "0"}}])  # and no table any more
    assert (tmp_path / "grades.csv").read_bytes() == before
    assert run(tmp_path, {}, handed_in(b=2))[TITLE] == "0"


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
