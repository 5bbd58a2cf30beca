"""Grade one notebook, in a process of its own: `python -m tools.grading.worker SUBMISSION RESULT`.

Only the code that the answers need is run, exercise by exercise, in a kernel that `sandbox` starts; tests come from
notebooks/, never from the submission. So it does not matter what became of them or of nbgrader's marks on the way.
"""

import argparse
import contextlib
import hashlib
import json
import os
import queue
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tools.grading.reading import read
from tools.grading.result import Grade, Result
from tools.notebook import CHAPTERS, COURSE, HIDDEN, LINK, Exercise, dependencies, exercises, write_whole

TOOLS = Path(__file__).parent
MOST_OUTPUT = 100_000  # characters that are kept of the beginning of what a cell prints, and of its end
STARTING = 120.0  # seconds that a kernel may take to start and to import PyTorch
MAGIC = re.compile(r"^%%(time|timeit|capture|prun|memit|mprun|snakeviz|debug)\b.*\n?")  # around Python code
SHELL = re.compile(r"^([ \t]*)(!|%(pip|conda|sx|system)\b)(.*\\\n)*.*$", re.MULTILINE)  # with the lines it goes on in
HEADING = re.compile(r"^### (Exercise|Question) \d", re.MULTILINE)
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what Python raises when it can't compile a source
# Exceptions after which an answer may be right all the same: here it lacked something, or ran out of something
NOT_RUN = re.compile(
    r"(Name|Import|ModuleNotFound|FileNotFound|Permission|OS|URL|HTTP|Connection|Timeout|DeadKernel|Memory|Usage"
    r"|StdinNotImplemented|Inductor)Error|BackendCompilerFailed|AttributeError: (module '|'Tensor' object)"
    r"|TypeError: .*unexpected keyword argument|.*(CUDA|NVIDIA|can't allocate memory)"
)
SILENT_INPUT = "get_ipython().kernel.raw_input = lambda prompt='': ''"  # nobody is there to answer input()


@dataclass
class Ran:
    """How the execution of a cell ended: the name of its exception, "" for none, its message, and what was printed."""

    error: str = ""
    message: str = ""
    output: str = ""

    @property
    def reason(self) -> str:
        """The exception as a student reads it."""
        checked = ("", "CheckFailed", "AssertionError")
        return self.message if self.error in checked else f"{self.error}: {self.message}"


class Assignment:
    """A notebook of the course and its hand-out."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        self.source = nbformat.read(path, as_version=4)
        self.handout = nbformat.read(path.parent / "practice" / path.name, as_version=4)
        self.exercises = exercises(self.source)
        code = [cell.source for cell in self.handout.cells if cell.cell_type == "code"]
        self.given = {plain(cell.source) for cell in self.handout.cells}
        self.imports = next(source for source in code if "from checks import" in source)

    def likeness(self, submission: NotebookNode) -> float:
        """How much of the hand-out's cells and marks the submission has, from 0 to 1."""
        found = "\n".join(cell.source for cell in submission.cells)
        marks = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in submission.cells}
        signs = [e.grade_id in marks or bool(e.name and defining(found, e.name)) for e in self.exercises]
        kept = self.given & {plain(cell.source) for cell in submission.cells}
        return (sum(signs) / len(signs) + len(kept) / len(self.given)) / 2


def plain(source: str) -> str:
    """Source without the white space that editors change, and the links that hand-outs in zip files don't have."""
    return "\n".join(line.rstrip() for line in LINK.sub(r"\1", source).strip().splitlines())


def defining(source: str, name: str) -> re.Match | None:
    """Where the source of a cell gives a value to `name`, even in a cell with an error of syntax."""
    return re.search(rf"^(?:def|class|async def) +{name}\b|^{name} *(?::[^=]*)?=[^=]", source, re.MULTILINE)


def version(path: Path | None = None) -> str:
    """Names what gives the points of the notebook at `path`: this grader, and the notebook's tests, answers and checks.

    Without a notebook, what refuses a file: this grader.
    """
    cells, files = [], [*sorted(TOOLS.glob("*.py")), COURSE / "tools" / "notebook.py"]
    if path:
        source = nbformat.read(path, as_version=4)
        cells = [source.cells[i].source for e in exercises(source) for i in (e.answer, e.test)]
        code = "\n".join(cell.source for cell in source.cells)
        (module,) = set(re.findall(r"^from checks import (\w+)", code, re.MULTILINE))
        files += [COURSE / "checks" / f"{name}.py" for name in ("common", module)]
    parts = [cell.encode() for cell in cells] + [file.read_bytes() for file in files]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def unwrapped(source: str) -> str:
    """The source of a cell without magics around it, such as %%time, and without calls of the shell, such as !pip."""
    source = source.lstrip()
    while MAGIC.match(source):
        source = MAGIC.sub("", source, count=1).lstrip()
    return SHELL.sub(r"\1pass", source)


@cache
def python(source: str) -> str:
    """The source without what only notebooks understand. Raises one of UNREADABLE if it can't be compiled."""
    source = TransformerManager().transform_cell(unwrapped(source))
    compile(source, "cell", "exec")
    dependencies([source], [0])  # may find it nested too deeply
    return source


def environment(home: Path) -> dict[str, str]:
    """All environment variables that a kernel gets; its files are in `home`."""
    folders = {"HOME": str(home), "TMPDIR": str(home)}
    settings = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "VAE_DIGITS": "embedded", "TQDM_DISABLE": "1"}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "", **folders, **settings}


class Kernel:
    """A confined kernel that has run a notebook's imports and then our guard."""

    def __init__(self, home: Path, imports: str, seed: str, seconds: float, server: int | None = None) -> None:
        self.seconds = STARTING
        self.guard = f"_{secrets.token_hex(8)}"
        argv = [sys.executable, "-I", str(TOOLS / "sandbox.py"), "{connection_file}"]
        argv += [] if server is None else [str(server)]
        spec = home / "kernels" / "sandbox"
        spec.mkdir(parents=True, exist_ok=True)
        curve = {"supported_encryption": ["curve"]}
        kernel = {"argv": argv, "display_name": "sandbox", "language": "python", "metadata": curve}
        (spec / "kernel.json").write_text(json.dumps(kernel))
        finder = KernelSpecManager(kernel_dirs=[str(home / "kernels")])
        self.manager = KernelManager(
            kernel_name="sandbox", kernel_spec_manager=finder, connection_file=str(home / "connection.json")
        )
        self.manager.transport_encryption = "required"  # else any kernel could listen to what we send to another
        if os.name == "posix":  # files, because another program may take a port before the kernel does
            self.manager.transport, self.manager.ip = "ipc", str(home / "kernel")
        inherited = {} if server is None else {"pass_fds": [server]}
        self.manager.start_kernel(env=environment(home) | {"VAE_COURSE_SEED": seed}, cwd=str(home), **inherited)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=STARTING)
        guard = (TOOLS / "guard.py").read_text(encoding="utf-8")
        for code in (SILENT_INPUT, imports, guard, f"{self.guard} = guard()\ndel guard"):
            ran = self.run(code)
            if ran.error:
                raise RuntimeError(f"the grader's own code failed: {ran.reason}")
        confined = self.run("import os\nprint(os.environ.pop('SANDBOX_CONFINED'))\ndel os").output
        self.confined = confined.strip() == "1"
        self.seconds = seconds

    def run(self, code: str) -> Ran:
        """Run `code`. Ends the kernel when it takes too long."""
        asked, end, ran = self.client.execute(code, allow_stdin=False), time.monotonic() + self.seconds, Ran()
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                if not self.manager.is_alive():
                    return Ran("DeadKernelError", "out of memory, or the code ended the process", ran.output)
                message = None
            if time.monotonic() > end:
                self.close()
                return Ran("TimeoutError", f"stopped after {self.seconds:.0f} s: an infinite loop?", ran.output)
            if message is None or message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                text = ran.output + content["text"]
                ran.output = text if len(text) < 2 * MOST_OUTPUT else text[:MOST_OUTPUT] + text[-MOST_OUTPUT:]
            elif message["msg_type"] == "error":
                ran.error, ran.message = content["ename"], content["evalue"][:2000]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return ran

    def alive(self) -> bool:
        """Whether it can run another cell."""
        return self.manager.is_alive()

    def close(self) -> None:
        """Kill the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


class Grader:
    """Grades the exercises of one submission one after the other, in one kernel as long as that lives."""

    def __init__(
        self, assignment: Assignment, submission: NotebookNode, seed: str, seconds: float, server: int | None = None
    ) -> None:
        self.assignment, self.seed, self.seconds, self.server = assignment, seed, seconds, server
        self.result = Result(notebook=assignment.name)
        self.tests = {plain(assignment.handout.cells[e.test].source): e for e in assignment.exercises if e.name}
        self.cells = submission.cells
        self.code = [new_code_cell(assignment.imports), *(cell for cell in self.cells if cell.cell_type == "code")]
        self.scratch = tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True)
        self.kernel: Kernel | None = None
        self.edited: list[str] = []
        self.stuck: dict[int, Ran] = {}  # by index in `code`: cells that ended a kernel, which need not end another
        self.not_run: set[str] = set()  # titles of exercises whose answers could not be run or tested

    def flag(self, exercise: Exercise, text: str) -> None:
        """Note for the instructor; what a student's code says in it is shortened, and can't steer a terminal."""
        shown = "".join(character if character.isprintable() else " " for character in text)
        self.result.flags.append(f"{exercise.title}: {shown[:300]}")

    def grade(self) -> Result:
        """Grade all that can be graded without a person."""
        try:
            for exercise in self.assignment.exercises:
                self.result.grades.append(
                    self.grade_exercise(exercise) if exercise.name else self.grade_question(exercise)
                )
        finally:
            if self.kernel:
                self.kernel.close()
            self.scratch.cleanup()
        if self.edited:
            self.result.flags.append(f"checks deleted or edited, the originals were run: {', '.join(self.edited)}")
        return self.result

    def grade_question(self, exercise: Exercise) -> Grade:
        """Find the text that answers a question."""
        found = {other.title: self._written(other) for other in self.assignment.exercises}
        cells, named = found[exercise.title], re.compile(rf"\bQ\w*\W*{re.escape(exercise.title.split()[1])}\b")
        if not cells:  # below no heading, after the first question, or where it is called by its number
            taken = set().union(*(others or () for others in found.values()))
            own = {i for i, cell in enumerate(self.cells) if plain(cell.source) not in self.assignment.given | {""}}
            first = next((i for i, cell in enumerate(self.cells) if "### Question" in cell.source), len(self.cells))
            elsewhere = [i for i in own if named.search(self.cells[i].source) or (i > first and i not in taken)]
            if cells is not None and not elsewhere:
                return Grade(exercise.title, exercise.points, 0, "No answer was written.")
            self.flag(exercise, "the answer may be elsewhere, or its cell is gone: look by hand")
            cells = sorted(elsewhere)
        rubric = re.sub(r"</?(details|summary)>", "", self.assignment.source.cells[exercise.answer].source)
        message = "Read by a person." if cells else "No answer was found."
        return Grade(exercise.title, exercise.points, None, message, self._text(cells), rubric)

    def _text(self, cells: Sequence[int]) -> str:
        """What is written in these cells of the submission."""
        return "\n\n".join(dict.fromkeys(self.cells[i].source for i in cells))

    def _written(self, exercise: Exercise) -> list[int] | None:
        """Which cells below an exercise's or a question's heading are the student's own, text and code alike.

        None if neither the heading nor the cell to write in can be found.
        """
        heading = f"### {' '.join(exercise.title.split()[:2])} ("
        blanks = {plain(self.assignment.handout.cells[i].source) for i in (exercise.answer, exercise.test)}
        found, inside, known = [], False, False
        for i, cell in enumerate(self.cells):
            source, marked = plain(cell.source), cell.metadata.get("nbgrader", {}).get("grade_id")
            given = source in self.assignment.given
            if heading in source or marked == exercise.grade_id or (exercise.name and source in blanks):
                inside = known = True
            elif (given and source not in blanks) or HEADING.search(source):
                inside = False
            if inside and source and not given:
                found.append(i)
        return found if known else None

    def grade_exercise(self, exercise: Exercise) -> Grade:
        """Run what the answer needs, then the course's tests."""
        defined = {i: where for i, cell in enumerate(self.code) if (where := defining(cell.source, exercise.name))}
        own = [i for i in defined if plain(self.code[i].source) not in self.assignment.given]
        if not own:
            written = self._written(exercise) or []
            if defined and not written:
                return Grade(exercise.title, exercise.points, 0, "Not answered.")
            self.flag(exercise, f"no cell defines {exercise.name}: look by hand")
            message = f"No cell defines {exercise.name}."
            return Grade(exercise.title, exercise.points, None, message, self._text(written))
        if len({plain(self.code[i].source) for i in own}) > 1:
            self.flag(exercise, f"{len(own)} cells define {exercise.name}; the last one was graded")
        functions = [i for i in own if not defined[i][0].startswith(exercise.name)]  # rather than `name = …`
        answer = (functions or own)[-1]
        source = self.code[answer].source
        if not any(self._tests(i) == exercise.name for i in range(len(self.code))):
            self.edited.append(exercise.title)
        score, message = self._grade_answer(exercise, answer)
        return Grade(exercise.title, exercise.points, score, message, source)

    def _grade_answer(self, exercise: Exercise, answer: int) -> tuple[float | None, str]:
        """The points for the answer in the code cell of that index, and the reason."""
        source = self.code[answer].source
        try:
            python(source)
        except UNREADABLE as error:
            why = f"Python {sys.version_info.major}.{sys.version_info.minor} can't read it: {error}"
            return self._not_run(exercise, Ran(type(error).__name__, why))
        if unwrapped(source).startswith("%%"):
            return self._not_run(
                exercise, Ran("UsageError", "the grader does not run the magic that the cell begins with")
            )
        flags, needed = list(self.result.flags), self._needed(exercise, answer)
        score, message = self._run(exercise, answer, needed)
        spoilers = self._spoilers(needed) if score == 0 or exercise.title in self.not_run else []
        if spoilers:  # what went wrong before must not cost points twice
            self.result.flags = flags
            score, message = self._run(exercise, answer, self._needed(exercise, answer, spoilers), spoilers)
            if score:
                message = f"Correct, with our {', '.join(other.name for other in spoilers)} in place of yours."
        return score, message

    def _spoilers(self, needed: Sequence[int]) -> list[Exercise]:
        """The exercises without points that the `needed` cells use, and those that our answers to these use in turn."""
        titles = {grade.title for grade in self.result.grades if not grade.score}
        failed = [other for other in self.assignment.exercises if other.title in titles and other.name]
        found, code = [], "\n".join(self.code[i].source for i in needed)
        while more := [other for other in failed if other not in found and re.search(rf"\b{other.name}\b", code)]:
            found += more
            code = "\n".join(self.assignment.source.cells[other.answer].source for other in more)
        return [other for other in failed if other in found]

    def _tests(self, i: int) -> str:
        """The name that a code cell tests, if it is one of the hand-out's tests; else an empty string."""
        test = self.tests.get(plain(self.code[i].source))
        return test.name if test else ""

    def _needed(self, exercise: Exercise, answer: int, ours: Sequence[Exercise] = ()) -> list[int]:
        """Which code cells have to run before the answer in the cell of that index can be tested.

        Of the exercises `ours`, our own answers are used.
        """
        blanks = {plain(self.assignment.handout.cells[e.answer].source) for e in self.assignment.exercises}
        cells = []
        for i, cell in enumerate(self.code):
            skipped = i not in (0, answer) and (
                plain(cell.source) in blanks | {plain(self.assignment.imports)}
                or cell.metadata.get("nbgrader", {}).get("grade_id", "").endswith("-test")
                or self._tests(i)
                or defining(cell.source, exercise.name)
            )
            cells.append("")
            replaced = next((other for other in ours if defining(cell.source, other.name)), None)
            if replaced:
                cells[i] = self.assignment.source.cells[replaced.answer].source
            elif not skipped:
                with contextlib.suppress(*UNREADABLE):
                    cells[i] = python(cell.source)
        test = next((i for i in range(len(self.code)) if self._tests(i) == exercise.name), answer)
        last = max(test, answer) + 1
        return dependencies([*cells[:last], exercise.name], [last])[:-1]

    def _run(
        self, exercise: Exercise, answer: int, needed: Sequence[int], ours: Sequence[Exercise] = ()
    ) -> tuple[float | None, str]:
        """The points for the answer in the code cell of that index, after the cells `needed`, and the reason.

        Of the exercises `ours`, our own answers are used.
        """
        answers = {other.name: self.assignment.source.cells[other.answer].source for other in ours}
        replacing = {i: [answers[name] for name in answers if defining(self.code[i].source, name)] for i in needed}
        for i in needed:
            if i in self.stuck and (i == answer or not replacing[i]):
                return self._not_run(exercise, self.stuck[i])
        if self.kernel is None or not self.kernel.alive():
            home, imports = Path(self.scratch.name), self.assignment.imports
            self.kernel = Kernel(home, imports, self.seed, self.seconds, self.server)
            self.result.confined = self.kernel.confined
        doubts = []
        for source in answers.values():
            self.kernel.run(source)
        for i in needed:
            if i in self.stuck:
                continue
            ran = self.kernel.run(unwrapped(self.code[i].source))
            if not self.kernel.alive():
                self.stuck[i] = ran
            if i in self.stuck or (ran.error and i == answer):
                return self._not_run(exercise, ran)
            for source in replacing[i]:
                self.kernel.run(source)
            if ran.error and not replacing[i]:
                doubts.append(ran)
            if re.search(r"\binput\(", self.code[i].source):
                doubts.append(Ran(message="it asks by input(), which gave an empty text"))
        score, message = self._test(exercise)
        return self._not_run(exercise, doubts[0]) if score == 0 and doubts else (score, message)

    def _not_run(self, exercise: Exercise, ran: Ran) -> tuple[None, str]:
        """An answer that could not be run or tested may be right: a person has to look."""
        self.not_run.add(exercise.title)
        self.flag(exercise, f"could not be run ({ran.reason}): look by hand")
        return None, f"A person will look at this. {ran.reason}"

    def _test(self, exercise: Exercise) -> tuple[float | None, str]:
        """The points that the course's tests give to what is in the kernel now, and the reason."""
        source = self.assignment.source.cells[exercise.test].source
        check, hidden = HIDDEN.sub("", source), HIDDEN.search(source)[1]
        done = secrets.token_hex(8)
        arguments = f"{exercise.name!r}, {exercise.name}, {self.assignment.imports!r}, {check!r}, {hidden!r}, {done!r}"
        ran = self.kernel.run(f"{self.kernel.guard}({arguments})")
        reports = [report.split() for report in re.findall(rf"{done} (.*)$", ran.output, re.MULTILINE)]
        steps = [report[0] for report in reports]
        replaced = sorted({name for report in reports if report[0] == "replaced" for name in report[1:]})
        if not self.kernel.alive():
            return self._not_run(exercise, ran)
        if replaced or (not ran.error and steps != ["replaced", "checked", "tested", "replaced"]):
            why = f"replaces what the tests rely on: {', '.join(replaced)}" if replaced else "hides how the tests ended"
            self.flag(exercise, f"{why}; look by hand")
            return None, ran.reason or "A person will look at this."
        if not ran.error:
            return exercise.points, "Correct."
        if ran.error != "CheckFailed" and NOT_RUN.match(f"{ran.error}: {ran.message}"):
            return self._not_run(exercise, ran)
        if "checked" in steps:
            self.flag(exercise, "passes the instant check but not the hidden test; look by hand")
            how = "differs from the right one" if ran.error == "AssertionError" else f"stops: {ran.reason}"
            return 0, f"The instant check passes, but with other numbers this answer {how}."
        return 0, ran.reason


def main() -> None:
    """Grade the notebook named first and write the result, as JSON, to the file named second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("submission", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--seed", default="")
    parser.add_argument("--seconds", type=float, default=60, help="that a cell may take")
    parser.add_argument("--server", type=int, help="socket on which to order kernels: see sandbox.py")
    arguments = parser.parse_args()
    start = time.monotonic()
    try:
        submission, repaired = read(arguments.submission.read_bytes())
        best = max(map(Assignment, CHAPTERS), key=lambda assignment: assignment.likeness(submission))
        if best.likeness(submission) < 0.05:
            raise ValueError("this is no notebook of the course")
        result = Grader(best, submission, arguments.seed, arguments.seconds, arguments.server).grade()
        result.flags += repaired
    except ValueError as error:
        result = Result("refused", flags=[f"not graded: {error}"])
    result.seconds = time.monotonic() - start
    write_whole(arguments.result, result.to_json())


if __name__ == "__main__":
    main()
