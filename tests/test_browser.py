"""Each notebook in JupyterLab in a real browser: Run All, then move its sliders, if any, by mouse and keyboard."""

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from statistics import NormalDist

import nbformat
import pytest
import short
from scipy.integrate import quad

from tools import cells as course
from tools.notebook import COURSE

pytestmark = pytest.mark.slow

SCREENSHOTS = COURSE / "screenshots"
NUMBER = r"[-−]?\d+(?:\.\d+)?"

READY = """() => {
    const session = window.jupyterapp?.shell?.currentWidget?.sessionContext, kernel = session?.session?.kernel;
    return session?.isReady && kernel?.connectionStatus == 'connected' && kernel?.status == 'idle';
}"""
RUN_ALL = """async () => {
    await window.jupyterapp.commands.execute('notebook:run-all-cells');
    const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells].filter(cell => cell.type == 'code');
    const outputs = cells.flatMap(cell => cell.outputs.toJSON());
    return {
        cells: cells.length,
        ran: cells.filter(cell => cell.executionCount).length,
        errors: outputs.filter(output => output.output_type == 'error'),
    };
}"""
CHANGED = "([box, old]) => box.querySelector('img').src != old"


def log_joint(z, x=2.0):
    """log p(x, z) of the one-dimensional model of notebooks 02 and 03."""
    return NormalDist(z**2 + z / 2, 0.5).pdf(x) * NormalDist().pdf(z)


def split_is_right(values, numbers):
    """ELBO + gap = log p(x), each by quadrature."""
    mean, log_width = values
    q = NormalDist(mean, math.exp(log_width))
    log_px = math.log(quad(log_joint, -4, 4, points=[-1.6, 1.1], limit=200)[0])

    def bound(z):
        return q.pdf(z) * (math.log(NormalDist().pdf(z)) - math.log(q.pdf(z)) + log_lik(z))

    def log_lik(z):
        return -0.5 * ((2 - z**2 - z / 2) / 0.5) ** 2 - math.log(0.5 * math.sqrt(2 * math.pi))

    elbo = quad(bound, mean - 8 * q.stdev, mean + 8 * q.stdev, limit=200)[0]
    return numbers == pytest.approx([elbo, log_px - elbo, log_px], abs=0.011)


# for each notebook with sliders and each of its pictures: whether the numbers below it are right, given the values
FORMULAS = {
    "01_autoencoder": [lambda values, numbers: numbers[:2] == pytest.approx(values, abs=0.006)],
    "02_probability_and_elbo": [split_is_right],
    "03_reparameterization": [
        lambda values, numbers: (
            numbers[1::2] == pytest.approx([values[0] ** 2 + values[1] ** 2, 2 * values[0], 2 * values[1]], abs=0.006)
        ),
    ],
    "04_vae": [
        lambda values, numbers: numbers[:2] == pytest.approx(values, abs=0.006),
        lambda values, numbers: (numbers[0], numbers[1]) == (values[0], values[2]),
    ],
    "08_your_own_pictures": [
        lambda values, numbers: numbers[1] + numbers[2] == pytest.approx(values[0], abs=0.006) and numbers[0] >= 0,
    ],
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the course, with settings of its own."""
    home = tmp_path_factory.mktemp("lab")
    for name in ("checks", "notebooks", "utils"):
        shutil.copytree(COURSE / name, home / name, ignore=shutil.ignore_patterns("__pycache__", "practice"))
    for name in course.NAMES:
        nbformat.write(short.load(name), home / "notebooks" / f"{name}.ipynb")
    settings = home / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(
        json.dumps({"windowingMode": "none"})
    )  # all cells in the page
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    folders = {f"JUPYTER{name}_DIR": str(home / name.lower()) for name in ("_CONFIG", "_DATA", "_RUNTIME")}
    options = [f"--port={port}", "--no-browser", "--expose-app-in-browser", "--IdentityProvider.token=", "--allow-root"]
    options += ["--KernelManager.transport=ipc"] if os.name == "posix" else []
    with (
        open(home / "log", "w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            cwd=home,
            env=os.environ | folders | {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings")},
            stdout=log,
            stderr=log,
        ) as server,
    ):
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"{address}/api/status", timeout=5)
                    break
                except OSError:
                    time.sleep(1)
            else:
                pytest.fail(f"JupyterLab did not start:\n{(home / 'log').read_text()}")
            yield address
        finally:
            server.terminate()


def look(box):
    """What a reader of this widget has: its sentence, the numbers in it, its picture."""
    for _ in range(100):  # a kernel that is still at work on a drag sends one after the other
        sentence, picture = box.locator(".widget-html-content").last.inner_text(), box.locator("img")
        if picture.get_attribute("alt") == sentence:
            break
        box.page.wait_for_timeout(100)
    assert picture.get_attribute("alt") == sentence
    numbers = [float(number.replace("−", "-")) for number in re.findall(NUMBER, re.sub(r"z_\d+", "", sentence))]
    return sentence, numbers, picture.get_attribute("src")


def values(box):
    """The values that its numbers show."""
    return [float(number.input_value()) for number in box.locator("input[type=number]").all()]


@pytest.mark.parametrize("name", course.NAMES)
def test_everything_runs_and_every_control_moves_its_picture(browser, lab, name):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?reset")
    page.wait_for_function(READY, timeout=300_000)
    page.set_default_timeout(300_000)
    shown = page.evaluate(RUN_ALL)
    assert shown["errors"] == []
    assert shown["ran"] == shown["cells"] == len(course.sources(name))
    boxes = page.locator(".jp-OutputArea-output .widget-vbox")
    formulas = FORMULAS.get(name, [])
    assert boxes.count() == len(formulas)
    for box, is_right in zip(boxes.all(), formulas, strict=True):
        box.scroll_into_view_if_needed()
        for control in box.locator(".widget-inline-hbox.widget-text").all():
            label, before = control.locator("label").inner_text(), look(box)
            assert box.get_by_role("spinbutton", name=label, exact=True).count() == 1
            handle = control.locator("xpath=..").locator(".noUi-handle")
            handle.drag_to(control.locator("xpath=..").locator(".noUi-base"), target_position={"x": 110, "y": 3})
            page.wait_for_function(CHANGED, arg=[box.element_handle(), before[2]])
            page.wait_for_timeout(1000)
            before = look(box)
            handle.focus()
            page.keyboard.press("ArrowRight")
            page.wait_for_function(CHANGED, arg=[box.element_handle(), before[2]])
            for _ in range(100):
                sentence, numbers, _ = look(box)
                if is_right(values(box), numbers):
                    break
                page.wait_for_timeout(100)
            assert is_right(values(box), numbers), (values(box), sentence)
    SCREENSHOTS.mkdir(exist_ok=True)
    for i, box in enumerate(boxes.all(), start=1):
        box.screenshot(path=SCREENSHOTS / f"{name}_{i}.png")
    page.close()


def test_no_slider_is_forgotten():
    moving = {name for name in course.CHAPTER_NAMES if "explore(" in "".join(course.sources(name))}
    assert moving == set(FORMULAS)
