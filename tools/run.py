"""Run notebooks top to bottom in place and normalise what is stored: `make run`, or name notebooks as arguments.

A notebook is replaced only when all its cells ran; an exception leaves the file as it was and is printed with its cell.
Stored afterwards: the outputs of one fresh run, cell ids as they were, and nothing that differs from run to run
(timestamps, widget state, progress bars, the Python version). Figures have 256 colours; that of a cell with the tag
"img:name" is also written to img/name.png, an animation to img/name.webp, for the README.
"""

import argparse
import base64
import io
import re
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

from tools import live
from tools.notebook import COURSE, NOTEBOOKS, write_whole

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
            cell.outputs = _joined([output for output in cell.outputs if not _is_fleeting(output)])
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = _smaller(output.data["image/png"])


def _smaller(picture: str) -> str:
    """A PNG picture, as text in base64, with fewer colours: smaller.

    64 greys (digits must not get a tint) and 192 colours; 64 levels of each channel where 192 colours would be too few.
    """
    image, png = Image.open(io.BytesIO(base64.b64decode(picture))), io.BytesIO()
    if image.mode == "P":  # already reduced
        return picture
    image = image.convert("RGB")
    colors, rgb = image.quantize(192, Image.Quantize.MAXCOVERAGE), np.asarray(image, dtype=int)
    levels, grey = (rgb * 63 + 127) // 255, (rgb == rgb[..., :1]).all(axis=2)
    smaller = Image.fromarray(np.where(grey, levels[..., 0], 64 + np.asarray(colors)).astype(np.uint8))
    smaller.putpalette([255 * level // 63 for level in range(64) for _ in "RGB"] + colors.getpalette()[: 3 * 192])
    if np.abs(np.asarray(smaller.convert("RGB"), dtype=int) - rgb).mean() > 1:  # of 255 levels
        smaller = Image.fromarray((255 * levels // 63).astype(np.uint8))
    smaller.save(png, "png", optimize=True)
    return base64.b64encode(png.getvalue()).decode()


def _is_fleeting(output: nbformat.NotebookNode) -> bool:
    """Whether an output lives only in a running kernel: a widget, or a progress bar drawn over itself."""
    return WIDGET_VIEW in output.get("data", {}) or (output.get("name") == "stderr" and "\r" in output.text)


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs, with printed text in one piece however many pieces the kernel sent it in."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def figures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    """The files "name.png" and "name.webp" that cells with a tag "img:name" give: a figure, or an animation."""
    found = {}
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            for output in cell.outputs if tag.startswith("img:") else []:
                name, data = tag.removeprefix("img:"), output.get("data", {})
                moving = re.search(r'<img src="data:image/webp;base64,([^"]+)', data.get("text/html", ""))
                if "image/png" in data:
                    found[f"{name}.png"] = base64.b64decode(data["image/png"])
                elif moving:
                    found[f"{name}.webp"] = base64.b64decode(moving[1])
    return found


def run(path: Path, timeout: int) -> float:
    """Execute the notebook at `path` in its folder, normalise it, replace the file; returns the seconds it took.

    Raises nbclient's errors when a cell fails, when one takes longer than `timeout` seconds, or when the kernel dies.
    """
    notebook = nbformat.read(path, as_version=4)
    exports = live.cells(notebook)
    cells, notebook.cells = notebook.cells, [*notebook.cells, *exports.values()]
    start = time.perf_counter()
    where = {"metadata": {"path": path.parent}}
    late = {"iopub_timeout": timeout, "raise_on_iopub_timeout": True}  # else an output that comes late is lost
    NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=where, **late).execute()
    seconds = time.perf_counter() - start
    notebook.cells = cells
    normalise(notebook)
    write_whole(path, nbformat.writes(notebook) + "\n")
    for name, picture in figures(notebook).items():
        write_whole(COURSE / "img" / name, picture)
    for name, cell in exports.items():
        write_whole(COURSE / "docs" / "live" / f"{name}.js", "".join(output.text for output in cell.outputs))
    return seconds


def main() -> int:
    """Run the notebooks named on the command line, or all; returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(description="Run notebooks in place and normalise them.")
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS)
    parser.add_argument("--timeout", type=int, default=300, help="seconds that one cell may take")
    arguments = parser.parse_args()
    failed = 0
    for path in arguments.notebooks:
        try:
            print(f"{path.name}: {run(path, arguments.timeout):.0f} s", flush=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError, AssertionError) as error:
            failed = 1  # an AssertionError is nbclient's own, when it cleans up after a kernel that died
            print(f"{path.name}: failed and left as it was\n{str(error) or error.__context__}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
