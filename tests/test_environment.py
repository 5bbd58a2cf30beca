"""One list of dependencies, one lock, and a Makefile that knows an unfinished environment from a finished one."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tools.notebook import COURSE

PROJECT = tomllib.loads((COURSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = SpecifierSet(PROJECT["requires-python"])
LOCK = [
    Requirement(line)
    for line in (COURSE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
HERE = {canonicalize_name(pin.name): pin for pin in LOCK if pin.marker is None or pin.marker.evaluate()}
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + EXTRAS["test"] + EXTRAS["homework"] + EXTRAS["docs"]]


def pinned(requirement: Requirement) -> str:
    """The only version that the requirement allows."""
    return re.fullmatch(r"==([\w.]+)", str(requirement.specifier))[1]


def test_the_lock_pins_exact_versions_and_the_project_asks_for_the_oldest_that_will_do():
    for requirement in DIRECT:
        assert str(requirement.specifier).startswith(">=")
        assert requirement.specifier.contains(pinned(HERE[canonicalize_name(requirement.name)]), prereleases=True)


def test_nothing_of_the_course_is_installed_only_what_it_needs():
    installed = [file.parts[0] for file in distribution(PROJECT["name"]).files if file.suffix in (".py", ".pth")]
    assert not {"checks", "utils", "tools"} & set(installed)
    assert not [name for name in installed if name.endswith(".pth")]  # which would lead Python to the course's folder


def test_readers_are_not_asked_for_the_tools_of_tests():
    assert not {"nbval", "pytest", "nbgrader"} & {Requirement(line).name for line in PROJECT["dependencies"]}


@pytest.mark.skipif(os.environ.get("LOCK") == "", reason="installed without the lock, to try newer packages")
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


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("LOCK") == "", reason="installed without the lock, to try newer packages")
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


@pytest.mark.parametrize("name", ["test", "site"])
def test_workflows_use_pinned_actions(name):
    workflow = yaml.safe_load((COURSE / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))
    uses = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in uses)


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
INSTALL = "-m pip install --constraint constraints.txt --editable ."
TOOLS = f"{INSTALL}[test,homework,docs]"


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


def test_readers_get_less_than_testers_and_each_only_once(make):
    assert make("lab")[2][:2] == ["-m venv --clear .venv", INSTALL]
    assert make("lab")[2][0].startswith("-m jupyterlab")
    assert make("test")[2][0] == TOOLS
    assert make("test")[2][0].startswith("-m ruff")


def test_without_cuda_and_without_the_lock(make):
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in make("lab", "TORCH=cpu")[2][1]
    assert make("test", "LOCK=")[2][0] == "-m pip install --editable .[test,homework,docs]"


def test_with_the_index_of_cpu_builds_beside_it_pip_takes_those(make, tmp_path):
    """pip, asked as `make lab` asks it, with stand-ins for both indexes: PyPI's torch, and one built for CPUs alone."""
    pin = pinned(HERE["torch"])
    for index, version in {"pypi": pin, "cpu": f"{pin}+cpu"}.items():
        folder = tmp_path / index / "torch"
        folder.mkdir(parents=True)
        name = f"torch-{version}-py3-none-any.whl"
        with zipfile.ZipFile(folder / name, "w") as wheel:
            info = f"torch-{version}.dist-info"
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        (folder / "index.html").write_text(f'<a href="{name.replace("+", "%2B")}">{name}</a>')
    address = (tmp_path / "{}").as_uri().replace("%7B%7D", "{}")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    clean["PIP_CONFIG_FILE"] = os.devnull
    wish = str(next(requirement for requirement in DIRECT if requirement.name == "torch"))
    cpu = ["TORCH=cpu", f"CPU_INDEX={address.format('cpu')}"]
    for choice, expected in [([], f"torch-{pin}-"), (cpu, f"torch-{pin}+cpu-")]:
        for folder in (".venv", "got"):
            shutil.rmtree(tmp_path / folder, ignore_errors=True)
        options = make("lab", *choice)[2][1].removeprefix("-m pip install").removesuffix("--editable .").split()
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "-d", "got", wish]
        command += [*options, "--index-url", address.format("pypi")]
        pip = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert pip.returncode == 0, pip.stderr
        (wheel,) = (tmp_path / "got").iterdir()
        assert wheel.name.startswith(expected)


def test_a_failed_install_is_done_again_from_scratch(make, tmp_path):
    status, _, calls = make("lab", NO_NETWORK="1")
    assert status != 0
    assert calls[-1] == INSTALL
    assert not (tmp_path / ".venv" / "ready").exists()
    (tmp_path / ".venv" / "half-written").write_text("")
    assert make("lab")[2][:2] == ["-m venv --clear .venv", INSTALL]


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_changed_dependencies_are_installed_into_what_is_there(make, tmp_path, changed):
    make("test")
    for stamp in ("ready", "ready-tools"):
        os.utime(tmp_path / ".venv" / stamp, (0, 0))
    assert make("test", NO_NETWORK="1")[2] == [INSTALL]
    assert not (tmp_path / ".venv" / "ready").exists()
    make("test")
    os.utime(tmp_path / changed, (2e9, 2e9))
    assert make("run")[2] == [INSTALL, TOOLS, "-m tools.run"]


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [("OLD", "./python is not Python 3.11 to 3.14; name one that is"), ("NO_VENV", "./python lacks its module venv")],
)
def test_an_unsuitable_python_gets_a_clear_message_and_leaves_nothing(make, tmp_path, trouble, sentence):
    status, message, calls = make("lab", **{trouble: "1"})
    assert status != 0
    assert message.startswith(sentence)
    assert len(message.splitlines()) == 2  # the sentence, and make's own that it stops here
    assert calls == []
    assert not (tmp_path / ".venv").exists()


def test_lab_may_run_as_root_and_gets_what_the_user_adds(make):
    lab = "-m jupyterlab --LabApp.default_url=/lab/tree/notebooks"
    root = " --allow-root" if os.getuid() == 0 else ""
    assert make("lab", "ARGS=--no-browser")[2][-1] == f"{lab}{root} --no-browser"


def test_an_empty_address_is_not_the_same_as_none(make):
    assert make("publish", "REPO=ada/course")[2][-1] == "-m tools.publish --repo ada/course --branch "
    assert make("publish", "REPO=")[2][-1] == "-m tools.publish --repo  --branch "
    assert make("publish")[2][-1] == "-m tools.publish --branch "


def test_grade_hands_on_what_it_is_given(make):
    grade = make("grade", "SUBMISSIONS=my class", "SEED=autumn", "ARGS=--jobs 1")[2][-1]
    assert grade == "-m tools.grading my class --seed autumn --jobs 1"
