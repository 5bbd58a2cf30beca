"""`make run` stores one fresh run, leaves a failing notebook alone, and changes nothing the second time."""

import base64
import io
import sys

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools import live
from tools import run as tool
from utils import diagrams

WIDGET = new_output("display_data", {tool.WIDGET_VIEW: {"model_id": "1"}, "text/plain": "IntSlider()"})
BAR = new_output("stream", name="stderr", text="\r 50%|█████     |\r100%|██████████|")
WARNING = new_output("stream", name="stderr", text="this is about to change\n")
NUMBER = new_output("stream", text="42\n")


@pytest.fixture
def write(tmp_path):
    """Writes a notebook with the given code cells and returns its path."""

    def write(*sources, name="example"):
        path = tmp_path / f"{name}.ipynb"
        cells = [new_markdown_cell("# Example"), *map(new_code_cell, sources)]
        nbformat.write(new_notebook(cells=cells), path)
        return path

    return write


def run(monkeypatch, *arguments):
    """The exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, arguments)])
    return tool.main()


def test_what_lives_only_in_a_kernel_is_dropped_and_the_rest_stays():
    metadata = {"tags": ["a"], "execution": {"shell.execute_reply": "now"}}
    cell = new_code_cell("42", outputs=[WIDGET, BAR, WARNING, NUMBER], metadata=metadata)
    notebook = new_notebook(cells=[cell], metadata={"widgets": {}, "language_info": {"name": "python", "version": "3"}})
    tool.normalise(notebook)
    assert cell.outputs == [WARNING, NUMBER]
    assert cell.metadata == {"tags": ["a"]}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}


@pytest.mark.slow
def test_a_second_run_changes_nothing(write, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE")
    path = write(
        "from tqdm.auto import tqdm\nfor i in tqdm(range(3)):\n    print(i)",
        "import ipywidgets\nipywidgets.IntSlider()",
        "from pathlib import Path\nPath.cwd().name",
    )
    ids = [cell.id for cell in nbformat.read(path, as_version=4).cells]
    assert run(monkeypatch, path) == 0
    first = path.read_bytes()
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ids
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3]
    assert "".join(output.text for output in notebook.cells[1].outputs) == "0\n1\n2\n"
    assert notebook.cells[2].outputs == []
    assert notebook.cells[3].outputs[0].data["text/plain"] == repr(path.parent.name)
    assert run(monkeypatch, path) == 0
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
def test_a_failing_notebook_stays_as_it_was_and_the_others_run(write, monkeypatch, capsys):
    wrong, right = write("1 / 0", name="wrong"), write("1 / 1", name="right")
    before = wrong.read_bytes()
    assert run(monkeypatch, wrong, right) == 1
    assert wrong.read_bytes() == before
    assert nbformat.read(right, as_version=4).cells[1].outputs[0].data["text/plain"] == "1.0"
    printed = capsys.readouterr().out
    assert "wrong.ipynb: failed and left as it was" in printed
    assert "ZeroDivisionError" in printed


@pytest.mark.slow
def test_a_kernel_that_dies_fails(write, monkeypatch, capsys):
    path = write("import os\nos._exit(1)")
    before = path.read_bytes()
    assert run(monkeypatch, path) == 1
    assert path.read_bytes() == before
    assert "Kernel died" in capsys.readouterr().out


@pytest.mark.slow
def test_a_cell_that_takes_too_long_fails(write, monkeypatch, capsys):
    path = write("import time\ntime.sleep(60)")
    before = path.read_bytes()
    assert run(monkeypatch, path, "--timeout", 1) == 1
    assert path.read_bytes() == before
    assert "time.sleep(60)" in capsys.readouterr().out


def test_printed_text_is_stored_in_one_piece():
    halves = [new_output("stream", text="4"), new_output("stream", text="2\n"), WARNING]
    notebook = new_notebook(cells=[new_code_cell("42", outputs=halves)])
    tool.normalise(notebook)
    assert notebook.cells[0].outputs == [NUMBER, WARNING]


def plot():
    """Few colours."""
    draw = np.random.default_rng(0).integers
    return draw(0, 256, (20, 3))[draw(0, 20, (100, 200))]


def photograph():
    """Tens of thousands of colours, most of them nearly grey."""
    light = 0.8 * np.add.outer(np.arange(100), np.arange(200))[..., None]
    return light.round() + np.array([0, 4, 9]) + np.random.default_rng(0).integers(0, 5, (100, 200, 3))


@pytest.mark.parametrize("drawn", [plot, photograph])
def test_a_stored_figure_is_smaller_its_colours_are_true_and_its_greys_get_no_tint(drawn):
    rgb, png = np.concatenate([drawn(), np.zeros((100, 200, 3))]).astype(np.uint8), io.BytesIO()
    rgb[100:] = np.arange(56, 256, dtype=np.uint8)[:, None]  # a ramp of greys
    Image.fromarray(rgb).save(png, "png")
    figure = new_output("display_data", {"image/png": base64.b64encode(png.getvalue()).decode()})
    tool.normalise(new_notebook(cells=[new_code_cell("plot()", outputs=[figure])]))
    stored = base64.b64decode(figure.data["image/png"])
    colours = np.array(Image.open(io.BytesIO(stored)).convert("RGB")).astype(int)
    assert len(stored) < len(png.getvalue())
    assert abs(colours - rgb).max() <= 2
    assert np.ptp(colours[100:], axis=2).max() == 0
    assert (colours[100:, -1] == 255).all()  # the paper stays white


@pytest.mark.slow
def test_the_figure_of_a_tagged_cell_becomes_a_file(write, monkeypatch, tmp_path):
    path = write("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["img:line"]
    nbformat.write(notebook, path)
    (tmp_path / "img").mkdir()
    monkeypatch.setattr(tool, "COURSE", tmp_path)
    assert run(monkeypatch, path) == 0
    assert (tmp_path / "img" / "line.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_figure_that_moves_becomes_a_file_and_leaves_no_cell_behind(write, monkeypatch, tmp_path):
    path = write(
        f"import sys\nsys.path.insert(0, {str(tool.COURSE)!r})\nexplore = lambda *_, **__: None",
        "import torch\nkept = torch.tensor([0.5, -1.0])",
        "def draw(fig):\n    fig.subplots().set(title='$z_1$')\n    return lambda mu: mu\n\n"
        "def say(mu):\n    return f'mean {mu:.1f}'",
        "explore(draw, {'mu': 'mean μ'}, figsize=(2, 2), mu=(0.0, 2.0, 1.0))",
    )
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[4].metadata["tags"] = ["live:trick"]
    nbformat.write(notebook, path)
    monkeypatch.setattr(tool, "COURSE", tmp_path)
    monkeypatch.setattr(live, "LIVE", tmp_path / "docs" / "live")
    assert run(monkeypatch, path) == 0
    assert len(nbformat.read(path, as_version=4).cells) == 5
    figure = live.read("trick")
    assert (figure["labels"], figure["limits"]) == ({"mu": "mean μ"}, {"mu": [0.0, 2.0, 1.0]})
    assert (figure["sentence"], figure["panels"][0]["title"]) == ("mean {.1f}", "z₁")
    assert live.load("trick")["eps"].tolist() == [0.5, -1.0]


def test_an_animation_of_a_tagged_cell_becomes_a_file():
    moving = base64.b64encode(b"moving").decode()
    still = '<source srcset="data:image/webp;base64,AAAA">'
    html = f'<picture>{still}<img src="data:image/webp;base64,{moving}" alt=""></picture>'
    cell = new_code_cell("animate()", outputs=[new_output("display_data", {"text/html": html})])
    cell.metadata["tags"] = ["img:walk"]
    assert tool.figures(new_notebook(cells=[cell])) == {"walk.webp": b"moving"}


def test_the_figures_in_img_are_those_of_the_notebooks():
    paths = tool.COURSE.glob("notebooks/*.ipynb")
    drawn = {}
    for path in paths:
        drawn |= tool.figures(nbformat.read(path, as_version=4))
    stored = {
        path.name: path.read_bytes() for path in (tool.COURSE / "img").glob("*.*") if path.stem not in diagrams.ALT
    }
    assert {name.rpartition(".")[2] for name in drawn} == {"png", "webp"}
    assert stored == drawn
