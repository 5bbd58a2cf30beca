"""Make the hand-outs: `make homework`.

The notebooks in notebooks/ hold the answers, marked for nbgrader. Without answers, hidden tests and outputs, each
becomes notebooks/practice/NAME.ipynb, for learners, and homework/NAME.zip, for a class: that notebook, `utils`, its own
checks, and a short instruction.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import CheckCellMetadata, ClearHiddenTests, ClearOutput, ClearSolutions, LockCells

from tools.notebook import CHAPTERS, COURSE, LINK, exercises, write_whole

STUB = "# YOUR CODE HERE\nraise NotImplementedError"
QUESTION_STUB = "*Write your answer here.*"
PREPROCESSORS = [
    ClearSolutions(code_stub={"python": STUB}, text_stub=QUESTION_STUB),
    ClearHiddenTests(),
    LockCells(),
    ClearOutput(),
    CheckCellMetadata(),
]
INSTRUCTION = """{title}

1. Unpack this folder and open {name}.ipynb in JupyterLab:

       pip install torch torchvision jupyterlab matplotlib ipywidgets tqdm
       jupyter lab {name}.ipynb

   Or on Colab (https://colab.research.google.com): upload {name}.ipynb and run its first code cell. If that says that
   this copy does not know its repository, upload the zip file to Colab's folder of files, run in a new cell

       !unzip -q {name}.zip && mv {name}/checks {name}/utils .

   and run the first code cell again.
2. Work from top to bottom. Where an exercise says so, put your code in place of

       # YOUR CODE HERE
       raise NotImplementedError

   and keep the names of functions and arguments. Answers to questions go where it says "Write your answer here"; a few
   sentences, or formulas, are enough.
3. Run the cell after each exercise, which begins with "check.". It says "Correct", or "Not yet" with what is wrong and
   where to look.
4. Cells that use a function which is not written yet fail: go on with the next exercise, whose check needs the earlier
   ones at most where its text says so. (Running all cells at once stops at the first that fails.)
5. Hand in the one file {name}.ipynb, worth {points} points. You may add cells, but please do not delete cells or edit
   those that begin with "check.". Comments such as "# NBVAL_CHECK_OUTPUT" and "# checks (2.1)" serve the course's own
   tests.
"""


def handout(source: NotebookNode) -> NotebookNode:
    """The notebook as students get it. Raises nbgrader's ValidationError or RuntimeError when a mark is wrong."""
    notebook, resources = nbformat.from_dict(source), {}
    for preprocessor in PREPROCESSORS:
        notebook, resources = preprocessor.preprocess(notebook, resources)
    notebook.metadata.pop("celltoolbar", None)
    for cell in notebook.cells:
        cell.metadata.pop("tags", None)
        cell.metadata.pop("slideshow", None)
        cell.source = cell.source.replace("/blob/main/notebooks/", "/blob/main/notebooks/practice/")
    return notebook


def parts(source: NotebookNode) -> Iterator[Path]:
    """The files that a hand-out needs: all of `utils`, and its own checks."""
    code = "\n".join(cell.source for cell in source.cells if cell.cell_type == "code")
    own = re.search(r"from checks import (\w+)", code)[1]
    yield from (COURSE / "checks" / f"{name}.py" for name in ("__init__", "common", own))
    yield from (path for path in sorted(COURSE.glob("utils/*")) if path.suffix in (".py", ".npz"))


def pack(name: str, source: NotebookNode, path: Path) -> None:
    """Write the hand-out with what it needs to the zip file `path`; links to other notebooks lead nowhere there."""
    notebook = handout(source)
    for cell in notebook.cells:
        cell.source = LINK.sub(r"\1", cell.source)
    title = source.cells[0].source.splitlines()[0].removeprefix("# ")
    points = sum(exercise.points for exercise in exercises(source))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/{name}.ipynb", nbformat.writes(notebook))
        archive.writestr(f"{name}/README.txt", INSTRUCTION.format(title=title, name=name, points=points))
        for file in parts(source):
            archive.write(file, f"{name}/{file.relative_to(COURSE).as_posix()}")
    write_whole(path, packed.getvalue())


def main() -> None:
    """Write notebooks/practice/ and homework/."""
    practice, homework = COURSE / "notebooks" / "practice", COURSE / "homework"
    for path in CHAPTERS:
        source = nbformat.read(path, as_version=4)
        write_whole(practice / path.name, nbformat.writes(handout(source)) + "\n")
        pack(path.stem, source, homework / f"{path.stem}.zip")
        points = {exercise.title: exercise.points for exercise in exercises(source)}
        print(f"homework/{path.stem}.zip  {sum(points.values())} points: ", end="")
        print(", ".join(f"{title} {n}" for title, n in points.items()))


if __name__ == "__main__":
    main()
