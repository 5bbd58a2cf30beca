"""Run notebooks top to bottom in place and normalise what is stored: `make run`, or name notebooks as arguments.

A notebook is replaced only when all its cells ran; an exception leaves the file as it was and is printed with its cell.
Stored afterwards: the outputs of one fresh run, cell ids as they were, and nothing that differs from run to run
(timestamps, widget state, progress bars, the Python version).
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def normalise(notebook: nbformat.NotebookNode) -> None:
    """Remove, in place, everything that a second run would change without a reason."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_fleeting(output)]


def _is_fleeting(output: nbformat.NotebookNode) -> bool:
    """Whether an output lives only in a running kernel: a widget, or a progress bar drawn over itself."""
    return WIDGET_VIEW in output.get("data", {}) or (output.get("name") == "stderr" and "\r" in output.text)


def run(path: Path, timeout: int) -> float:
    """Execute the notebook at `path` in its folder, normalise it, replace the file; returns the seconds it took.

    Raises nbclient's errors when a cell fails, when one takes longer than `timeout` seconds, or when the kernel dies.
    """
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    seconds = time.perf_counter() - start
    normalise(notebook)
    partial = path.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(path)
    return seconds


def main() -> int:
    """Run the notebooks named on the command line, or all; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(description="Run notebooks in place and normalise them.")
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(NOTEBOOKS.glob("*.ipynb")))
    parser.add_argument("--timeout", type=int, default=300, help="seconds that one cell may take")
    arguments = parser.parse_args()
    failed = 0
    for path in arguments.notebooks:
        try:
            print(f"{path.name}: {run(path, arguments.timeout):.0f} s", flush=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed = 1
            print(f"{path.name}: failed and left as it was\n{error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
