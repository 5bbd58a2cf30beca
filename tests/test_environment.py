"""One list of dependencies, one lock, and a Makefile that knows an unfinished environment from a finished one."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

COURSE = Path(__file__).parents[1]
PROJECT = tomllib.loads((COURSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = SpecifierSet(PROJECT["requires-python"])
LOCK = [
    Requirement(line)
    for line in (COURSE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
HERE = {canonicalize_name(pin.name): pin for pin in LOCK if pin.marker is None or pin.marker.evaluate()}
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS["test"], *EXTRAS["homework"]]]


def pinned(requirement: Requirement) -> str:
    """The only version that the requirement allows."""
    return re.fullmatch(r"==([\w.]+)", str(requirement.specifier))[1]


def test_everything_is_pinned():
    assert all(pinned(requirement) for requirement in [*DIRECT, *LOCK])


def test_the_lock_names_all_that_is_needed_and_all_that_is_needed_is_installed():
    todo, seen = [(requirement, "") for requirement in DIRECT], set()
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or (name, extra) in seen:
            continue
        seen.add((name, extra))
        assert distribution(name).version == pinned(HERE[name]), f"{name}, or run `make lock`"
        needs = [Requirement(line) for line in distribution(name).requires or []]
        todo += [(need, asked) for need in needs for asked in ("", *requirement.extras)]
    assert len(seen) > 100


def test_conda_s_environment_leads_to_the_same_packages():
    """Conda writes the pip section to a file beside environment.yml and has pip install that; so do we, offline."""
    environment = yaml.safe_load((COURSE / "environment.yml").read_text(encoding="utf-8"))
    python, pip, section = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert pip == "pip"
    assert python.removeprefix("python=") in PYTHONS
    requirements = COURSE / "condaenv.test.requirements.txt"
    try:
        requirements.write_text("\n".join(section["pip"]))
        offline = ["--dry-run", "--no-index", "--no-build-isolation", "--no-cache-dir"]
        pip = subprocess.run(
            [sys.executable, "-m", "pip", "install", "-U", *offline, "-r", requirements.name],
            cwd=COURSE, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        requirements.unlink()
    assert pip.returncode == 0, pip.stderr
    assert re.findall(r"^Would install (.*)", pip.stdout, re.MULTILINE) == [f"vae-course-{PROJECT['version']}"]


def test_the_workflow_uses_the_readme_s_commands_and_pinned_actions():
    workflow = yaml.safe_load((COURSE / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert all(python in PYTHONS for python in job["strategy"]["matrix"]["python"])
    uses = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in uses)
    commands = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
    assert commands == [
        "python -m pip install -c constraints.txt playwright",
        "python -m playwright install --with-deps chromium",
        "make test",
        "python -m venv .venv",
        r".venv\Scripts\pip install -c constraints.txt -e .[test,homework,docs]",
        r".venv\Scripts\python -m pytest",
    ]
    assert workflow["jobs"]["colab"]["steps"][-1]["run"] == "make test-colab"


# ---- the Makefile, with a stand-in for Python that writes down what it is asked for

FAKE = """#!/bin/sh
echo "$*" >> calls
case "$*" in
    *version_info*) exit $OLD ;;
    *ensurepip*) exit $NO_VENV ;;
    "-m venv --clear .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    *"pip install"*) exit $NO_NETWORK ;;
esac
"""
SHELL = {"PATH": os.environ["PATH"]}  # and nothing that an outer make, running these tests, hands down
INSTALL = "-m pip install --constraint constraints.txt --editable .[test,homework,docs]"
TEST = ["-m ruff check", "-m ruff format --check", "-m pytest -n 2 --dist loadfile"]


@pytest.fixture
def make(tmp_path):
    """Runs make in a copy of the course's files; returns its exit status, standard error, and the calls of Python."""
    if os.name == "nt" or not shutil.which("make"):
        pytest.skip("needs make and sh")
    for name in ["Makefile", "pyproject.toml", "constraints.txt"]:
        shutil.copy(COURSE / name, tmp_path)
    (tmp_path / "python").write_text(FAKE)
    (tmp_path / "python").chmod(0o755)

    def make(*arguments, **troubles):
        calls = tmp_path / "calls"
        calls.write_text("")
        troubles = {"OLD": "0", "NO_VENV": "0", "NO_NETWORK": "0"} | troubles
        made = subprocess.run(
            ["make", "PYTHON=./python", *arguments],
            cwd=tmp_path, capture_output=True, text=True, env=SHELL | troubles,
        )  # fmt: skip
        return made.returncode, made.stderr, [call for call in calls.read_text().splitlines() if "import" not in call]

    return make


def test_help_lists_every_target(make, tmp_path):
    _, _, calls = make()
    printed = subprocess.run(["make"], cwd=tmp_path, capture_output=True, text=True, env=SHELL).stdout
    targets = re.findall(r"^([a-z-]+):", (tmp_path / "Makefile").read_text(), re.MULTILINE)
    assert [line.split()[0] for line in printed.splitlines()] == targets
    assert calls == []


def test_the_first_call_installs_and_the_second_does_not(make):
    assert make("test") == (0, "", ["-m venv --clear .venv", INSTALL, *TEST])
    assert make("test") == (0, "", TEST)


def test_a_failed_install_is_done_again_from_scratch(make, tmp_path):
    status, _, calls = make("test", NO_NETWORK="1")
    assert status != 0
    assert calls[-1] == INSTALL
    assert not (tmp_path / ".venv" / "ready").exists()
    (tmp_path / ".venv" / "half-written").write_text("")
    assert make("test") == (0, "", ["-m venv --clear .venv", INSTALL, *TEST])


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_dependencies_are_installed_into_what_is_there(make, tmp_path, changed):
    make("test")
    os.utime(tmp_path / ".venv" / "ready", (0, 0))
    assert make("test", NO_NETWORK="1")[2] == [INSTALL]
    assert not (tmp_path / ".venv" / "ready").exists()
    make("test")
    os.utime(tmp_path / changed, (2e9, 2e9))
    assert make("run")[2] == [INSTALL, "-m tools.run"]


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [("OLD", "./python is not Python 3.11 to 3.14; name one that is"), ("NO_VENV", "./python lacks its module venv")],
)
def test_a_python_that_cannot_is_told_in_a_sentence_and_leaves_nothing(make, tmp_path, trouble, sentence):
    status, message, calls = make("lab", **{trouble: "1"})
    assert status != 0
    assert message.startswith(sentence)
    assert len(message.splitlines()) == 2  # the sentence, and make's own that it stops here
    assert calls == []
    assert not (tmp_path / ".venv").exists()


def test_lab_is_told_that_root_may_run_it_and_what_else_the_user_wants(make):
    lab = "-m jupyterlab --LabApp.default_url=/lab/tree/notebooks"
    root = " --allow-root" if os.getuid() == 0 else ""
    assert make("lab", "ARGS=--no-browser")[2][-1] == f"{lab}{root} --no-browser"


def test_publish_needs_no_environment(make):
    assert make("publish", "REPO=ada/course") == (0, "", ["-m tools.publish REPO=ada/course BRANCH="])


def test_homework_and_grade_hand_on_what_they_are_told(make):
    assert make("homework")[2][-1] == "-m tools.homework"
    grade = make("grade", "SUBMISSIONS=my class", "SEED=autumn", "ARGS=--jobs 1")[2][-1]
    assert grade == "-m tools.grading my class --seed autumn --jobs 1"
