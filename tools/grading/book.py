"""The grade book: grades.csv, in which people write too, the results it is made of, and a page for each student."""

import contextlib
import csv
import io
import json
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from tools.grading.collect import Submission
from tools.grading.result import Grade, Result
from tools.notebook import write_whole

FIXED = ["student", "notebook", "total", "of", "to be read", "flags", "seconds"]
PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
Texts = dict[str, dict[str, str]]  # by "student / notebook", then by title: the text of a cell of grades.csv


class Book:
    """What has been graded so far, in a folder: grades.csv, written.json, results/ and feedback/.

    written.json holds what the grader last wrote for each exercise, and what a person had written in its place. Only
    a cell that differs from what was last written is a person's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: dict[str, Result] = {}
        for path in sorted(folder.glob("results/*.json")):
            with contextlib.suppress(ValueError):
                self.results[path.stem] = Result.from_json(path.read_text(encoding="utf-8"))
        known = {"written": [], "by hand": {}}
        with contextlib.suppress(OSError, ValueError):
            known |= json.loads((folder / "written.json").read_text(encoding="utf-8"))
        self.written: list[Texts] = known["written"]  # two only if a run was killed while it wrote
        self.ignored: dict[str, list[str]] = {}  # entries that are no points, by "student / notebook"
        self.by_hand = self._by_hand(known["by hand"])

    def _by_hand(self, before: Texts) -> Texts:
        """What people have written into grades.csv."""
        path = self.folder / "grades.csv"
        if not path.exists():
            return before
        most = {grade.title: grade for result in self.results.values() for grade in result.grades}
        text = path.read_text(encoding="utf-8-sig")
        delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
        found = dict(before)
        for line in csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter):
            row = f"{line.get('student')} / {line.get('notebook')}"
            hand = found[row] = {}
            for title in most.keys() & line.keys():
                entry, old = (line[title] or "").strip(), before.get(row, {}).get(title, "")
                if not entry or (entry != old and entry in {texts.get(row, {}).get(title) for texts in self.written}):
                    continue
                if _points(entry, most[title]) is None:
                    self.ignored.setdefault(row, []).append(f"{title}: {entry!r} is not from 0 to {most[title].points}")
                    entry = old
                if entry:
                    hand[title] = entry
        return found

    def add(self, key: str, result: Result) -> None:
        """Keep a result; the grader's own failure only until the next run, which tries again."""
        self.results[key] = result
        if result.status != "failed":
            write_whole(self.folder / "results" / f"{key}.json", result.to_json())

    def save(self, submissions: dict[str, Submission], student: str = "") -> None:
        """Write grades.csv for the submissions {key: submission}, and the feedback for one student, or for all."""
        rows = self.rows(submissions)
        titles = sorted({grade.title for result in rows for grade in result.grades}, key=_order)
        text = io.StringIO()
        table = csv.DictWriter(text, [*FIXED[:2], *titles, *FIXED[2:]], restval="")
        table.writeheader()
        table.writerows(line(self.with_hand(result)) for result in rows)
        now = {_row(result): {grade.title: _plain(grade.score) for grade in result.grades} for result in rows}
        self._remember([*self.written[-1:], now])
        write_whole(self.folder / "grades.csv", "\ufeff" + text.getvalue())  # the mark tells Excel that this is UTF-8
        self._remember([now])
        for name in [student] if student else sorted({result.student for result in rows}):
            results = [self.with_hand(result) for result in rows if result.student == name]
            write_whole(self.folder / "feedback" / f"{name}.html", page(name, results))

    def _remember(self, written: list[Texts]) -> None:
        self.written = written
        text = json.dumps({"written": written, "by hand": self.by_hand}, ensure_ascii=False, indent=1)
        write_whole(self.folder / "written.json", text)

    def rows(self, submissions: dict[str, Submission]) -> list[Result]:
        """One result for each student and notebook: of several attempts the latest, which names the others."""
        attempts: dict[str, list[tuple[str, str, Result]]] = {}
        for key, submission in submissions.items():
            if key in self.results:
                result = self.results[key]
                attempts.setdefault(_row(result), []).append((submission.attempt, submission.name, result))
        rows = []
        for row in sorted(attempts):
            *earlier, (_, name, result) = sorted(attempts[row], key=lambda attempt: attempt[:2])
            if earlier:
                others = ", ".join(name for _, name, _ in earlier)
                result = replace(result, flags=[*result.flags, f"{name} counts, the latest; not: {others}"])
            rows.append(result)
        return rows

    def with_hand(self, result: Result) -> Result:
        """The result with what a person has decided; flags name what the tests gave, and entries that are no points."""
        hand, grades = self.by_hand.get(_row(result), {}), []
        flags = [*result.flags, *self.ignored.get(_row(result), [])]
        for grade in result.grades:
            points = _points(hand.get(grade.title, ""), grade)
            if points is not None and grade.score is not None:
                flags.append(f"{grade.title}: {_plain(points)} by hand, {_plain(grade.score)} by the tests")
            grades.append(grade if points is None else replace(grade, score=points))
        return replace(result, grades=grades, flags=flags)


def _points(entry: str, grade: Grade) -> float | None:
    """The points in a person's entry; None if there are none, or more or fewer than the exercise can have."""
    try:
        points = float(entry.replace(",", "."))
    except ValueError:
        return None
    return points if math.isfinite(points) and 0 <= points <= grade.points else None


def _row(result: Result) -> str:
    return f"{result.student} / {result.notebook}"


def line(result: Result) -> dict[str, str]:
    """One line of grades.csv."""
    return {
        "student": result.student,
        "notebook": result.notebook,
        **{grade.title: _plain(grade.score) for grade in result.grades},
        "total": _plain(result.total),
        "of": str(sum(grade.points for grade in result.grades)),
        "to be read": str(result.to_be_read),
        "flags": "; ".join(result.flags),
        "seconds": f"{result.seconds:.0f}",
    }


def page(student: str, results: Iterable[Result]) -> str:
    """A student's feedback, one page that needs no other file and no network."""
    return PAGES.get_template("feedback.html.j2").render(student=student, results=list(results), plain=_plain)


def _plain(value: float | None) -> str:
    """A number as people write it, 15 rather than 15.0; empty for None."""
    return "" if value is None else f"{value:g}"


def _order(title: str) -> list[int]:
    """Sort "Exercise 2.10" behind "Exercise 2.9"; questions follow a notebook's exercises."""
    chapter, number = re.search(r"(\d+)\.(\d+)", title).groups()
    return [int(chapter), title.startswith("Question"), int(number)]
