"""The setup cell: a notebook alone in an empty folder, as Colab opens it, fetches the course or says why not."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import short
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell

from tools import cells as course
from tools.notebook import COURSE
from tools.publish import PLACES, publish

pytestmark = pytest.mark.slow

NAMES = course.NAMES
COLAB = importlib.metadata.version("ipywidgets") == "7.7.1"
STARTED = [f"practice/{name}" for name in course.CHAPTER_NAMES] if COLAB else NAMES[:1]  # there the others run whole
ORIGIN = new_code_cell("print(utils.__file__)")


def git(*arguments, cwd):
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def github(tmp_path_factory):
    """A stand-in for github.com with the one repository ada/course, branch autumn."""
    folder = tmp_path_factory.mktemp("github")
    work = folder / "work"
    for name in ("checks", "utils"):
        shutil.copytree(COURSE / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    git("init", "-q", "-b", "autumn", cwd=work)
    git("add", "-A", cwd=work)
    git("commit", "-q", "-m", "course", cwd=work)
    (folder / "ada").mkdir()
    git("clone", "-q", "--bare", str(work), str(folder / "ada" / "course"), cwd=folder)
    return folder


@pytest.fixture
def colab(github, tmp_path, monkeypatch):
    """Runs cells in a folder with nothing but a notebook, with a google.colab, and github.com redirected."""
    fake = tmp_path / "site" / "google" / "colab"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("")
    content = tmp_path / "content"
    content.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{github.as_uri()}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")

    def run(cells, repository="ada/course", branch="autumn", kernel="import google.colab"):
        path = tmp_path / "notebooks" / "lone.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=[new_code_cell(kernel), *cells]), path)
        for name in PLACES:
            (tmp_path / name).write_text("")
        if repository:
            publish(repository, tmp_path, branch)
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(
            notebook, timeout=1800, iopub_timeout=300, kernel_name="python3", resources={"metadata": {"path": content}}
        ).execute()
        run.outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        return notebook.cells[-1].outputs[0].text.strip()

    run.content = content
    return run


def setup(name=NAMES[0]):
    return new_code_cell(course.sources(name)[0])


@pytest.mark.parametrize("name", STARTED)
def test_alone_it_fetches_the_course_and_gets_through_its_imports(colab, name):
    imports = new_code_cell(course.sources(name)[1])
    where = colab([setup(name), imports, setup(name), ORIGIN])  # the setup cell twice: harmless
    assert Path(where) == colab.content / "course" / "utils" / "__init__.py"


@pytest.mark.skipif(not COLAB, reason="`make test-colab` runs whole notebooks, with Colab's versions of the packages")
@pytest.mark.parametrize("name", NAMES)
def test_alone_it_runs_whole(colab, name):
    where = colab([*(new_code_cell(source) for source in short.sources(name)), ORIGIN])
    assert Path(where) == colab.content / "course" / "utils" / "__init__.py"
    assert [output.text for output in colab.outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in colab.outputs)


def test_restarted_it_uses_what_was_fetched(colab):
    colab([setup(), ORIGIN])
    (colab.content / "course" / "utils" / "mark").write_text("mine")
    colab([setup(), ORIGIN], repository="ada/gone")
    assert (colab.content / "course" / "utils" / "mark").exists()


def test_with_uploaded_folders_nothing_is_fetched(colab):
    for name in ("checks", "utils"):
        shutil.copytree(COURSE / name, colab.content / name)
    assert Path(colab([setup(), ORIGIN], repository=None)) == colab.content / "utils" / "__init__.py"


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ({"repository": "ada/nothing"}, "Could not fetch https://github.com/ada/nothing, branch autumn"),
        ({"branch": "spring"}, "Could not fetch https://github.com/ada/course, branch spring"),
        ({"repository": None}, "make publish REPO=owner/name"),
        ({"kernel": "pass"}, "keep this notebook in the course's folder"),
    ],
)
def test_a_problem_gets_a_clear_message_and_leaves_nothing(colab, trouble, sentence):
    with pytest.raises(CellExecutionError, match="SystemExit") as caught:
        colab([setup(), ORIGIN], **trouble)
    assert sentence in str(caught.value)
    assert list(colab.content.iterdir()) == []


@pytest.mark.parametrize("name", ["checks", "utils"])
def test_one_of_the_two_folders_is_not_enough(colab, name):
    shutil.copytree(COURSE / name, colab.content / name)
    with pytest.raises(CellExecutionError, match="upload `checks` and `utils`"):
        colab([setup(), ORIGIN], repository=None)


def test_a_half_fetched_course_is_named(colab):
    (colab.content / "course").mkdir()
    (colab.content / "course" / "half").write_text("")
    with pytest.raises(CellExecutionError, match="Delete a folder `course`"):
        colab([setup(), ORIGIN])


def test_another_utils_is_noticed(colab):
    (colab.content.parent / "site" / "utils.py").write_text("")
    with pytest.raises(CellExecutionError, match="Another `utils` is imported already"):
        colab([setup(), ORIGIN], kernel="import google.colab, utils")


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_at_home_a_path_through_a_link_is_fine(tmp_path):
    (tmp_path / "link").symlink_to(COURSE)
    code = f"import os; os.chdir({str(tmp_path / 'link' / 'notebooks')!r})\n{course.sources(NAMES[0])[0]}"
    subprocess.run([sys.executable, "-c", code], check=True)
