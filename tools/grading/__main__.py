"""Grade a folder of submissions: `make grade SUBMISSIONS=folder`.

The folder, or the zip, is what a learning platform exports (see collect.py). Written to graded/: grades.csv, a page of
feedback for each student, and what is known about each submission, so that a second run goes on where the first one
stopped. What a person writes into grades.csv is kept.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tools.grading.book import Book, line
from tools.grading.collect import Submission, collect
from tools.grading.result import Result
from tools.grading.worker import TOOLS, environment, version
from tools.notebook import CHAPTERS, COURSE


@contextlib.contextmanager
def kernel_server() -> Iterator[int | None]:
    """The socket on which workers order kernels from a process that imported all they need; None if not on Linux."""
    if sys.platform != "linux":
        yield None
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as home:
        server = subprocess.Popen(
            [sys.executable, "-I", TOOLS / "sandbox.py", "--serve", str(theirs.fileno())],
            cwd=home,
            env=environment(Path(home)),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C leaves it time to end what students' code started
        )
        theirs.close()
        try:
            yield ours.fileno()
        finally:
            server.kill()
            server.wait()


def grade(submission: Submission, seed: str, seconds: float, server: int | None = None) -> Result:
    """Grade one submission in a process of its own, with kernels from `server` if there is one."""
    if submission.problem:
        return Result("refused", flags=[submission.problem, *submission.flags], student=submission.student)
    with tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as scratch:
        notebook, written = Path(scratch) / "submission.ipynb", Path(scratch) / "result.json"
        notebook.write_bytes(submission.content())
        command = [sys.executable, "-m", "tools.grading.worker", notebook, written, "--seed", seed]
        command += ["--seconds", str(seconds), *([] if server is None else ["--server", str(server)])]
        process = subprocess.Popen(
            command,
            cwd=COURSE,
            env=os.environ | {"TMPDIR": scratch, "PYTHONWARNINGS": "ignore"},
            pass_fds=[] if server is None else [server],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, errors = process.communicate(timeout=20 * seconds)
            result = Result.from_json(written.read_text(encoding="utf-8"))
        except subprocess.TimeoutExpired:
            result = Result("refused", flags=[f"not graded: took longer than {20 * seconds:.0f} seconds"])
        except (OSError, ValueError):
            why = errors.strip().splitlines()[-1:] or process.returncode
            result = Result("failed", flags=[f"not graded: the grader itself stopped: {why}"])
        finally:
            process.kill()  # the kernel dies with it
            process.communicate()
    result.student = submission.student
    result.flags += submission.flags
    return result


def key(submission: Submission, seed: str) -> str:
    """Names a submission by its content and the course's seed, so that nothing is graded twice."""
    parts = [submission.student, submission.name, submission.problem, *submission.flags, seed]
    return hashlib.sha256("\0".join(parts).encode() + submission.content()).hexdigest()[:24]


def main() -> int:
    """Grade the folder named on the command line."""
    parser = argparse.ArgumentParser(description="Grade a folder of submissions.")
    parser.add_argument("submissions", type=lambda text: Path(text or "?"), help="folder or zip")
    parser.add_argument("--out", type=Path, default=COURSE / "graded")
    parser.add_argument("--seed", default="", help="of the numbers in hidden tests, any word; another for each course")
    parser.add_argument("--seconds", type=float, default=60, help="that one cell may take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    is_zip = arguments.submissions.is_file() and arguments.submissions.suffix.lower() == ".zip"
    if not (arguments.submissions.is_dir() or is_zip):
        print(f"{arguments.submissions} is neither a folder nor a zip: make grade SUBMISSIONS=folder", file=sys.stderr)
        return 2
    try:
        book = Book(arguments.out)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    handed_in = sorted(collect(arguments.submissions), key=lambda one: one.attempt)
    submissions = {key(one, arguments.seed): one for one in handed_in}  # of equal files the latest attempt
    versions = {path.stem: version(path) for path in CHAPTERS} | {"": version()}
    fresh = {name for name, result in book.results.items() if result.version == versions.get(result.notebook)}
    todo = {name: one for name, one in submissions.items() if name not in fresh}
    print(f"{len(submissions)} notebooks, {len(submissions) - len(todo)} of them graded before")
    start = time.monotonic()
    with (
        kernel_server() if todo else contextlib.nullcontext() as server,
        concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool,
    ):
        settings = (arguments.seed, arguments.seconds, server)
        running = {pool.submit(grade, one, *settings): name for name, one in todo.items()}
        try:
            for done, future in enumerate(concurrent.futures.as_completed(running), 1):
                name, result = running[future], future.result()
                result.version = versions[result.notebook]
                book.add(name, result)
                book.save(submissions, result.student)
                minutes = (time.monotonic() - start) / done * (len(todo) - done) / 60
                shown = line(result)
                points = f"{shown['total']} of {shown['of']} points, {shown['to be read']} to be read"
                left = f"[{done}/{len(todo)}, about {minutes:.0f} min left]"
                print(left, f"{result.student}: {result.notebook} {points}", shown["flags"], flush=True)
            book.save(submissions)
        except (KeyboardInterrupt, OSError, ValueError) as stopped:  # by the person, or because of the person's table
            pool.shutdown(cancel_futures=True)
            print(stopped or "Interrupted.", "The same command goes on from here.", file=sys.stderr)
            return 130
    if not all(book.results[name].confined for name in submissions):
        print("Here student code could read the files of this account: docs/teaching.md says what it can do.")
    print(f"{arguments.out}/grades.csv and feedback for {len({one.student for one in submissions.values()})} students")
    return 0


if __name__ == "__main__":
    sys.exit(main())
