"""Grade a folder of submissions: `make grade SUBMISSIONS=folder`.

The folder is what a learning platform exports: for each student a folder or a file; notebooks (.ipynb) may lie in zips.
Written to graded/: grades.csv, a page of feedback for each student, and what is known about each submission, so that a
second run goes on where the first one stopped. What a person writes into grades.csv stays.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import hashlib
import html
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

COURSE = Path(__file__).parents[2]
PLATFORM = re.compile(r"_\d+_assignsubmission_.*$|(_late)?(_\d+){2}_.*$", re.IGNORECASE)  # Moodle; Canvas
FIXED = ["student", "notebook", "total", "of", "to be read", "flags", "seconds"]
MOST_UNPACKED = 50_000_000  # bytes


@dataclass(frozen=True)
class Submission:
    """One notebook of one student, or the reason why there is none."""

    student: str
    name: str
    path: Path | None = None  # of the notebook, or of the zip file with `member` in it
    member: str = ""
    problem: str = ""

    def content(self) -> bytes:
        """The notebook's bytes, read when they are needed: a class's work need not fit into memory."""
        if self.path is None:
            return b""
        if not self.member:
            return self.path.read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member)


def collect(folder: Path) -> Iterator[Submission]:
    """All submissions below `folder`, the student being the folder or the file that lies directly in it."""
    entries = [e for e in sorted(folder.iterdir()) if not e.name.startswith((".", "__MACOSX")) and not e.is_symlink()]
    names = [unicodedata.normalize("NFC", entry.name if entry.is_dir() else entry.stem) for entry in entries]
    shortened = [PLATFORM.sub("", name).strip() for name in names]
    for entry, name, short in zip(entries, names, shortened, strict=True):
        student = short if short and shortened.count(short) == 1 else name  # two people may have one name
        files = [path for path in sorted(entry.rglob("*")) if path.is_file() and not path.is_symlink()]
        found, other = [], []
        for path in files if entry.is_dir() else [entry]:
            if path.suffix.lower() == ".ipynb":
                found.append(Submission(student, path.name, path))
            elif path.suffix.lower() == ".zip":
                found += unpack(student, path)
            else:
                other.append(path.name)
        found = [one for one in found if ".ipynb_checkpoints" not in one.name and "-checkpoint" not in one.name]
        yield from found or [Submission(student, name, problem=f"no notebook, only {', '.join(other) or 'nothing'}")]


def unpack(student: str, path: Path) -> list[Submission]:
    """The notebooks in a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [one for one in archive.infolist() if one.filename.lower().endswith(".ipynb")]
            inside = [one for one in inside if "__MACOSX" not in one.filename]
            if sum(one.file_size for one in inside) > MOST_UNPACKED:
                return [Submission(student, path.name, problem="the zip file unpacks to more than 50 MB")]
            for one in inside:
                archive.read(one)  # so that a damaged one is known at once
            return [Submission(student, PurePosixPath(one.filename).name, path, one.filename) for one in inside]
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError) as error:
        return [Submission(student, path.name, problem=f"the zip file can't be read: {error}")]


def grade(submission: Submission, seed: str, seconds: float) -> dict:
    """Grade one submission in a process of its own; returns a `grade_one.Result` as a dictionary."""
    if submission.problem:
        return {"notebook": "", "grades": [], "flags": [submission.problem], "confined": True, "seconds": 0.0}
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as scratch:
        notebook, result = Path(scratch) / "submission.ipynb", Path(scratch) / "result.json"
        notebook.write_bytes(submission.content())
        command = [sys.executable, "-m", "tools.grading.worker", notebook, result, "--seed", seed]
        process = subprocess.Popen(
            [*command, "--seconds", str(seconds)],
            cwd=COURSE,
            env=os.environ | {"TMPDIR": scratch, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, said = process.communicate(timeout=10 * seconds)
            return json.loads(result.read_text(encoding="utf-8"))
        except subprocess.TimeoutExpired:
            why = f"not graded: took longer than {10 * seconds:.0f} seconds"
        except (OSError, ValueError):
            why = f"not graded: the grader itself stopped: {said.strip().splitlines()[-1:] or process.returncode}"
        finally:
            process.kill()  # the kernel dies with it
            process.communicate()
    return {"notebook": "", "grades": [], "flags": [why], "confined": True, "seconds": 0.0}


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(path)


def row(student: str, result: dict) -> dict[str, object]:
    """One line of grades.csv, before a person writes into it."""
    known = [one for one in result["grades"] if one["score"] is not None]
    return {
        "student": student,
        "notebook": result["notebook"],
        **{one["title"]: one["score"] for one in result["grades"]},
        "total": sum(one["score"] for one in known),
        "of": sum(one["points"] for one in result["grades"]),
        "to be read": sum(one["points"] for one in result["grades"] if one["score"] is None),
        "flags": "; ".join(result["flags"]),
        "seconds": round(result["seconds"]),
    }


class Book:
    """What has been graded so far: graded/grades.csv, graded/results/ and the pages in graded/feedback/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: dict[str, dict] = {}
        for path in sorted(folder.glob("results/*.json")):
            with contextlib.suppress(ValueError):
                self.results[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        self.by_hand = self._by_hand()

    def _by_hand(self) -> dict[tuple[str, str], dict[str, str]]:
        """What a person has written into grades.csv: entries of exercises that differ from what the grader wrote."""
        path, found = self.folder / "grades.csv", {}
        if not path.exists():
            return found
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = {(line["student"], line["notebook"]): line for line in csv.DictReader(file)}
        for result in self.results.values():
            line = lines.get((result["student"], result["notebook"]), {})
            written = {one["title"]: (line.get(one["title"]) or "").strip() for one in result["grades"]}
            automatic = {one["title"]: _plain(one["score"]) for one in result["grades"]}
            hand = {title: text for title, text in written.items() if text and text != automatic[title]}
            found[result["student"], result["notebook"]] = hand
        return found

    def add(self, key: str, student: str, result: dict) -> None:
        """Keep a result; one that is the grader's own failure only until the next run, which tries again."""
        self.results[key] = result | {"student": student}
        if not any("the grader itself" in flag for flag in result["flags"]):
            text = json.dumps(self.results[key], ensure_ascii=False, indent=1)
            write(self.folder / "results" / f"{key}.json", text)

    def save(self, keys: list[str], student: str = "") -> None:
        """Write grades.csv for the submissions `keys`, and the feedback for one student, or for all."""
        shown = [self.results[key] for key in keys if key in self.results]
        titles = list(dict.fromkeys(one["title"] for result in shown for one in result["grades"]))
        text = io.StringIO()
        table = csv.DictWriter(text, [*FIXED[:2], *sorted(titles, key=_order), *FIXED[2:]], restval="")
        table.writeheader()
        pages: dict[str, list[dict]] = {}
        handed_in = Counter((result["student"], result["notebook"]) for result in shown)
        for result in sorted(shown, key=lambda result: (result["student"], result["notebook"])):
            name, final = result["student"], self.with_hand(result)
            if handed_in[name, result["notebook"]] > 1:
                final["flags"] = [*final["flags"], "handed in more than once: delete the file that doesn't count"]
            table.writerow({key: _plain(value) for key, value in row(name, final).items()})
            pages.setdefault(name, []).append(final)
        write(self.folder / "grades.csv", "\ufeff" + text.getvalue())  # the mark tells Excel that this is UTF-8
        for name in [student] if student else pages:
            write(self.folder / "feedback" / f"{name}.html", page(name, pages[name]))

    def with_hand(self, result: dict) -> dict:
        """The result with what a person has decided."""
        hand, grades, flags = self.by_hand.get((result["student"], result["notebook"]), {}), [], list(result["flags"])
        for one in result["grades"]:
            text = hand.get(one["title"], "")
            try:
                grades.append(one | {"score": float(text.replace(",", "."))} if text else one)
            except ValueError:
                flags.append(f"{one['title']}: {text!r} is not a number of points")
                grades.append(one)
        return result | {"grades": grades, "flags": flags}


def _plain(value: object) -> str:
    """A number as people write it, 15 rather than 15.0."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _order(title: str) -> list[int]:
    """Sort "Exercise 2.10" behind "Exercise 2.9"; questions follow a notebook's exercises."""
    chapter, number = re.search(r"(\d+)\.(\d+)", title).groups()
    return [int(chapter), title.startswith("Question"), int(number)]


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Feedback for {student}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff }}
pre {{ background: #f4f4f4; padding: .7em; overflow-x: auto; white-space: pre-wrap }}
h3 {{ border-top: 1px solid #999; padding-top: .7em }}
</style></head><body><h1>{student}</h1>
{body}
</body></html>
"""


def page(student: str, results: list[dict]) -> str:
    """A student's feedback, one page that needs no other file and no network."""
    body = []
    for result in results:
        score = row(student, result)
        title = html.escape(result["notebook"] or "Not graded")
        body.append(f"<h2>{title}: {_plain(score['total'])} of {score['of']} points</h2>")
        if score["to be read"]:
            body.append(f"<p>{score['to be read']} more points are given by a person.</p>")
        if not result["grades"]:
            body.append(f"<p>{html.escape('; '.join(result['flags']))}</p>")
        for one in result["grades"]:
            points = (
                "a person will read it" if one["score"] is None else f"{_plain(one['score'])} of {one['points']} points"
            )
            body.append(f"<h3>{html.escape(one['title'])}: {points}</h3><p>{html.escape(one['message'])}</p>")
            if one["answer"]:
                body.append(f"<pre>{html.escape(one['answer'])}</pre>")
            if one["rubric"] and one["score"] is not None:
                body.append(f"<pre>{html.escape(one['rubric'].strip())}</pre>")
    return PAGE.format(student=html.escape(student), body="\n".join(body))


def key(submission: Submission, seed: str) -> str:
    """Names a submission by its content and by what it is graded with, so that nothing is graded twice."""
    versions = [path.read_bytes() for path in sorted(COURSE.glob("notebooks/*.ipynb"))]
    parts = [submission.student.encode(), submission.name.encode(), submission.content(), submission.problem.encode()]
    return hashlib.sha256(b"\0".join([*parts, seed.encode(), *versions])).hexdigest()[:24]


def main() -> int:
    """Grade the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Grade a folder of submissions.")
    parser.add_argument("submissions", type=lambda text: Path(text or "?"), help="folder")
    parser.add_argument("--out", type=Path, default=COURSE / "graded")
    parser.add_argument("--seed", default="", help="of the numbers in hidden tests, any word; another for each course")
    parser.add_argument("--seconds", type=float, default=60, help="that one cell may take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if not arguments.submissions.is_dir():
        print(f"{arguments.submissions} is no folder: make grade SUBMISSIONS=folder", file=sys.stderr)
        return 2
    book = Book(arguments.out)
    submissions = {key(one, arguments.seed): one for one in collect(arguments.submissions)}
    todo = {name: one for name, one in submissions.items() if name not in book.results}
    print(f"{len(submissions)} notebooks, {len(submissions) - len(todo)} of them graded before")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(grade, one, arguments.seed, arguments.seconds): name for name, one in todo.items()}
        try:
            for done, future in enumerate(concurrent.futures.as_completed(running), 1):
                name, result = running[future], future.result()
                book.add(name, todo[name].student, result)
                book.save(list(submissions), todo[name].student)
                line = row(todo[name].student, result)
                points = f"{_plain(line['total'])} of {line['of']} points, {line['to be read']} to be read"
                print(f"[{done}/{len(todo)}] {line['student']}: {line['notebook']} {points}", line["flags"], flush=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            print("Interrupted. The same command goes on from here.")
            return 130
    book.save(list(submissions))
    if any(not book.results[name]["confined"] for name in submissions):
        print("Here student code could read the files of this account: see the README on isolation.")
    print(f"{arguments.out}/grades.csv and feedback for {len({one.student for one in submissions.values()})} students")
    return 0


if __name__ == "__main__":
    sys.exit(main())
