"""`make publish` writes the repository's address, whole and everywhere, or says why not."""

import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.publish import origin, publish

COURSE = Path(__file__).parents[1]
BADGE = "[![Open in Colab](badge.svg)](https://colab.research.google.com/github/{}/blob/main/notebooks/01.ipynb)"
CLONE = "git clone https://github.com/{} course"
SETUP = (
    'REPOSITORY, BRANCH = "{}", "main"  # on GitHub; `make publish REPO=owner/name` writes yours\n'
    'url = "https://github.com/a/b"'
)


@pytest.fixture
def copy(tmp_path):
    """A course with badges that name OWNER/NAME, in one notebook among the notebooks and one in a folder below."""
    (tmp_path / "README.md").write_text(f"{BADGE}\n{CLONE}\n".replace("{}", "OWNER/NAME"))
    for path in ["notebooks/01.ipynb", "notebooks/more/05.ipynb"]:
        cells = [new_markdown_cell(BADGE.format("OWNER/NAME")), new_code_cell(SETUP.format("OWNER/NAME"))]
        (tmp_path / path).parent.mkdir(exist_ok=True)
        nbformat.write(new_notebook(cells=cells), tmp_path / path)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("previous", ["OWNER/NAME", "some-one/their.course"])
def test_the_address_is_written_everywhere_and_nothing_else_changes(copy, previous):
    publish(previous, copy)
    assert len(publish("ada/vae_course-2", copy)) == 3
    assert (copy / "README.md").read_text() == f"{BADGE}\n{CLONE}\n".replace("{}", "ada/vae_course-2")
    for path in copy.rglob("*.ipynb"):
        badge, setup = nbformat.read(path, as_version=4).cells
        assert badge.source == BADGE.format("ada/vae_course-2")
        assert setup.source == SETUP.format("ada/vae_course-2")


def test_a_branch_is_written_into_badges_and_setup(copy):
    publish("ada/course", copy, "term/autumn-2")
    badge, setup = nbformat.read(copy / "notebooks" / "01.ipynb", as_version=4).cells
    assert "github/ada/course/blob/term/autumn-2/notebooks/01.ipynb" in badge.source
    assert 'REPOSITORY, BRANCH = "ada/course", "term/autumn-2"' in setup.source
    publish("ada/course", copy)
    assert "github/ada/course/blob/main/notebooks/01.ipynb" in (copy / "README.md").read_text()
    with pytest.raises(SystemExit, match="BRANCH=main"):
        publish("ada/course", copy, "my branch")


def test_a_second_call_changes_nothing(copy):
    publish("ada/course", copy)
    before = contents(copy)
    assert publish("ada/course", copy) == []
    assert contents(copy) == before


@pytest.mark.parametrize(
    "name", ["course", "ada/", "/course", "a/b/c", "https://github.com/ada/course", "ada/my course", ""]
)
def test_a_malformed_name_is_refused_and_nothing_written(copy, name):
    before = contents(copy)
    with pytest.raises(SystemExit, match="REPO=owner/name"):
        publish(name, copy)
    assert contents(copy) == before


def test_a_write_that_fails_leaves_the_file_whole(copy, monkeypatch):
    def full_disk(path, text):
        raise OSError("no space left on device")

    before = contents(copy)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        publish("ada/course", copy)
    assert contents(copy) == before


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/ada/vae.course.git",
        "https://github.com/ada/vae.course",
        "git@github.com:ada/vae.course.git",
        "ssh://git@github.com/ada/vae.course/",
    ],
)
def test_without_a_name_it_is_the_remote_s(tmp_path, url):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)
    assert origin(tmp_path) == "ada/vae.course"


@pytest.mark.parametrize("url", [None, "https://example.org/ada/course.git", "../elsewhere"])
def test_without_a_remote_on_github_a_name_is_asked_for(tmp_path, url):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    if url:
        subprocess.run(["git", "remote", "add", "origin", url], cwd=tmp_path, check=True)
    with pytest.raises(SystemExit, match="REPO=owner/name"):
        origin(tmp_path)


@pytest.mark.parametrize("path", sorted(COURSE.glob("notebooks/**/*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_has_both_places(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    (tmp_path / "README.md").write_text("")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / path.name).write_text(text, encoding="utf-8")
    publish("ada/course", tmp_path)
    notebook = nbformat.read(tmp_path / "notebooks" / path.name, as_version=4)
    link = f"https://colab.research.google.com/github/ada/course/blob/main/{path.relative_to(COURSE).as_posix()}"
    assert link in notebook.cells[0].source
    assert 'REPOSITORY, BRANCH = "ada/course", "main"' in notebook.cells[1].source
