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
    a cell that differs from what was last written is a person's. While a run is going, a person may save a table that
    was opened before a part of it: then what was written earlier in this run is the grader's too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: dict[str, Result] = {}
        for path in sorted(folder.glob("results/*.json")):
            with contextlib.suppress(ValueError):
                self.results[path.stem] = Result.from_json(path.read_text(encoding="utf-8"))
        known = {"written": {}, "by hand": {}}
        with contextlib.suppress(OSError, ValueError):
            known |= json.loads((folder / "written.json").read_text(encoding="utf-8"))
        self.written: dict[str, list[dict[str, str]]] = known["written"]  # by row, then one after the other
        self.ignored: Texts = {}  # entries that are no points
        self.by_hand: Texts = known["by hand"]
        self.read()

    def read(self) -> None:
        """Take up what people have written into grades.csv. Raises ValueError if that can't be read."""
        path = self.folder / "grades.csv"
        if not path.exists():
            return
        most = {grade.title: grade for result in self.results.values() for grade in result.grades}
        text = ""
        with contextlib.suppress(UnicodeDecodeError):
            text = path.read_bytes().decode("utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        if not {"student", "notebook"} <= set(lines.fieldnames or []):
            raise ValueError(f"{path} can't be read: save it again, with its first line, in the format CSV UTF-8")
        for line in lines:
            row = f"{line['student']} / {line['notebook']}"
            before, written = self.by_hand.get(row, {}), self.written.get(row, [])
            hand = self.by_hand[row] = {title: entry for title, entry in before.items() if title not in line}
            for title in most.keys() & line.keys():
                entry, old = (line[title] or "").strip(), before.get(title, "")
                ours = {_value(texts.get(title, "")) for texts in written}
                if not entry or (_value(entry) != _value(old) and _value(entry) in ours):
                    continue
                if _points(entry, most[title]) is None:
                    ignored = self.ignored.setdefault(row, {})
                    ignored[title] = f"{title}: {entry!r} is not from 0 to {most[title].points}"
                    entry = old
                if entry:
                    hand[title] = entry

    def add(self, key: str, result: Result) -> None:
        """Keep a result; the grader's own failure only until the next run, which tries again."""
        self.results[key] = result
        if result.status != "failed":
            write_whole(self.folder / "results" / f"{key}.json", result.to_json())

    def save(self, submissions: dict[str, Submission], student: str = "") -> None:
        """Write grades.csv for the submissions {key: submission}, and the feedback for one student, or for all.

        Raises ValueError if somebody has made grades.csv unreadable meanwhile.
        """
        self.read()
        rows = self.rows(submissions)
        titles = sorted({grade.title for result in rows for grade in result.grades}, key=_order)
        text = io.StringIO()
        table = csv.DictWriter(text, [*FIXED[:2], *titles, *FIXED[2:]], restval="")
        table.writeheader()
        table.writerows(line(self.with_hand(result)) for result in rows)
        for result in rows:
            texts, written = (
                {g.title: _plain(g.score) for g in result.grades},
                self.written.setdefault(_row(result), []),
            )
            written += [texts] if written[-1:] != [texts] else []
        self._remember(2)
        write_whole(self.folder / "grades.csv", "\ufeff" + text.getvalue())  # the mark tells Excel that this is UTF-8
        self._remember(1)
        for name in [student] if student else sorted({result.student for result in rows}):
            results = [self.with_hand(result) for result in rows if result.student == name]
            write_whole(self.folder / "feedback" / f"{name}.html", page(name, results))

    def _remember(self, last: int) -> None:
        """Write down what the cells of grades.csv are, by the `last` ones of what was written into each."""
        written = {row: texts[-last:] for row, texts in self.written.items()}
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
        return [self._with_namesakes(self._with_twins(result, rows), rows) for result in rows]

    @staticmethod
    def _with_twins(result: Result, rows: Iterable[Result]) -> Result:
        """The result, with a flag if another student has written the same answers to questions."""
        same = [o.student for o in rows if (o.notebook, o.texts) == (result.notebook, result.texts)]
        twins = [student for student in same if student != result.student]
        flags = [f"the same answers to questions as {', '.join(twins)}"] if result.texts and twins else []
        return replace(result, flags=[*result.flags, *flags])

    def _with_namesakes(self, result: Result, rows: Iterable[Result]) -> Result:
        """The result of "Ada (17)", with a flag if a person gave points to "Ada" before another Ada handed in."""
        name = re.sub(r" \([^()]*\)$", "", result.student)
        row = f"{name} / {result.notebook}"
        hand = {} if row in map(_row, rows) else self.by_hand.get(row, {})
        points = ", ".join(f"{title}: {hand[title]}" for title in sorted(hand, key=_order))
        flags = [f"given by hand to {name} when there was only one, for the right row: {points}"] if hand else []
        return replace(result, flags=[*result.flags, *flags])

    def with_hand(self, result: Result) -> Result:
        """The result with what a person has decided; flags name what the tests gave, and entries that are no points."""
        hand, grades = self.by_hand.get(_row(result), {}), []
        flags = [*result.flags, *self.ignored.get(_row(result), {}).values()]
        for grade in result.grades:
            points = _points(hand.get(grade.title, ""), grade)
            if points is not None and grade.score is not None:
                flags.append(f"{grade.title}: {_plain(points)} by hand, {_plain(grade.score)} by the tests")
            grades.append(grade if points is None else replace(grade, score=points))
        return replace(result, grades=grades, flags=flags)


def _points(entry: str, grade: Grade) -> float | None:
    """The points in a person's entry; None if there are none, or more or fewer than the exercise can have."""
    points = _value(entry)
    return points if isinstance(points, float) and math.isfinite(points) and 0 <= points <= grade.points else None


def _value(entry: str) -> float | str:
    """The number in an entry, whichever way a spreadsheet writes it, 15 or 15.0 or 15,0; the entry if it is none."""
    try:
        return float(entry.replace(",", "."))
    except ValueError:
        return entry


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
