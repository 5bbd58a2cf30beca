"""Draw the pictures of utils/diagrams.py into img/, each as SVG and as PNG: `make figures`.

The same bytes on each run: nothing of the day, of matplotlib's settings or of the machine's fonts gets in.
"""

import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

from tools.notebook import COURSE, write_whole
from utils import diagrams

IMG = COURSE / "img"


def render(name: str, kind: str) -> bytes:
    """The picture `name`, one of `diagrams.ALT`, as a file of the kind "svg" or "png"."""
    if kind == "svg":
        options = {"metadata": {"Title": diagrams.ALT[name], "Creator": None, "Date": None}}
    else:
        options = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    fig = getattr(diagrams, name)()
    file = io.BytesIO()
    with plt.style.context(["default", {"svg.hashsalt": name}]):
        fig.savefig(file, format=kind, dpi=200, **options)
    plt.close(fig)
    return file.getvalue()


def main(folder: Path = IMG) -> None:
    """Write all pictures into `folder`, each file at once."""
    matplotlib.use("agg")
    for name in diagrams.ALT:
        for kind in ("svg", "png"):
            target = folder / f"{name}.{kind}"
            write_whole(target, render(name, kind))
            print(f"{target.name}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
