"""`make publish` writes the repository's address, whole and everywhere, takes it out again, or says why not."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from tools import notebook
from tools.notebook import COURSE
from tools.publish import PLACES, origin, publish


@pytest.fixture
def copy(tmp_path):
    """What of the course names its address."""
    for name in PLACES:
        shutil.copy(COURSE / name, tmp_path)
    shutil.copytree(COURSE / "notebooks", tmp_path / "notebooks")
    publish("", tmp_path)
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.suffix == ".ipynb" or path.name in PLACES}


def test_the_course_as_it_is_names_one_repository_or_none():
    readme = (COURSE / "README.md").read_text(encoding="utf-8")
    notebooks = [path.read_text(encoding="utf-8") for path in COURSE.glob("notebooks/**/*.ipynb")]
    (repository,) = {name for text in notebooks for name in re.findall(r'REPOSITORY, BRANCH = \\"(.*?)\\"', text)}
    link = f"github.com/{repository}" if repository else "github.com"
    assert (link in readme) == bool(repository)
    assert [("Open in Colab" in text) for text in notebooks] == [bool(repository)] * len(notebooks)


def test_the_address_is_written_everywhere_and_taken_out_byte_for_byte(copy):
    before = contents(copy)
    assert len(publish("ada/vae_course-2", copy, "term/autumn-2")) == len(before)
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert "git clone https://github.com/ada/vae_course-2 course" in readme
    assert "(https://github.com/ada/vae_course-2/actions/workflows/test.yml/badge.svg)" in readme
    project = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((copy / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["urls"]["Repository"] == citation["repository-code"] == "https://github.com/ada/vae_course-2"
    for path in copy.rglob("*.ipynb"):
        where = path.relative_to(copy).as_posix()
        link = f"https://colab.research.google.com/github/ada/vae_course-2/blob/term/autumn-2/{where}"
        title, setup = nbformat.read(path, as_version=4).cells[:2]
        assert title.source.splitlines()[2].endswith(f"({link})")
        assert 'REPOSITORY, BRANCH = "ada/vae_course-2", "term/autumn-2"' in setup.source
        assert where.count("/") == 2 or link in readme
    publish("", copy)
    assert contents(copy) == before


def test_another_address_takes_the_place_of_the_first(copy):
    publish("some-one/their.course", copy, "spring")
    publish("ada/course", copy)
    assert not [path for path, content in contents(copy).items() if b"some-one" in content or b"spring" in content]
    before = contents(copy)
    assert publish("ada/course", copy) == []
    assert contents(copy) == before


@pytest.mark.parametrize(
    "name", ["course", "ada/", "/course", "a/b/c", "https://github.com/ada/course", "ada/my course"]
)
def test_a_malformed_name_is_refused_and_nothing_written(copy, name):
    before = contents(copy)
    with pytest.raises(ValueError, match="REPO=owner/name"):
        publish(name, copy)
    with pytest.raises(ValueError, match="BRANCH=main"):
        publish("ada/course", copy, "my branch")
    assert contents(copy) == before


def test_a_write_that_fails_leaves_the_file_whole(copy, monkeypatch):
    write = Path.write_bytes

    def full_disk(path, data):
        write(path, data[:100])
        raise OSError("no space left on device")

    before = contents(copy)
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        publish("ada/course", copy)
    after = contents(copy)
    assert {path: after[path] for path in before} == before


def test_one_helper_writes_files_whole(tmp_path):
    notebook.write_whole(tmp_path / "new" / "file", "ü\r\n")
    assert (tmp_path / "new" / "file").read_bytes() == "ü\r\n".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


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
    with pytest.raises(ValueError, match="REPO=owner/name"):
        origin(tmp_path)
