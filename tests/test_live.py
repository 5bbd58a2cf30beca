"""Figures that move in the site and in the slides show what PyTorch computes, wherever and however they are moved."""

import io
import re
import subprocess
import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure
from PIL import Image

from tools import cells as course
from tools import live
from tools.slides import __main__ as slides

FIGURES = {
    tag.removeprefix("live:"): name
    for name in course.NAMES
    for cell in course.load(name).cells
    for tag in cell.metadata.get("tags", [])
    if tag.startswith("live:")
}
SCREENSHOTS = course.COURSE / "screenshots"
STILL = "xpath=ancestor::div[contains(@class, 'cell')][1]/following-sibling::div[1]//img"
each_figure = pytest.mark.parametrize("figure", FIGURES)
each_of_stills = pytest.mark.parametrize("figure", [name for name in FIGURES if name != "posterior"])
NUMBER = re.compile(r"(?<![\w_])-?\d+(?:\.\d+)?")


def tagged(figure: str) -> int:
    """The index among the notebook's code cells of the one that has the figure."""
    code = [cell for cell in course.load(FIGURES[figure]).cells if cell.cell_type == "code"]
    (found,) = [i for i, cell in enumerate(code) if f"live:{figure}" in cell.metadata.get("tags", [])]
    return found


def restore(figure: str) -> dict[str, Any]:
    """The notebook's names with its functions, and with the networks and numbers that the figure's file holds."""
    stored = {name: torch.from_numpy(value.copy()) for name, value in live.load(figure).items()}
    module = course.definitions(FIGURES[figure], device="cpu", leaky=torch.nn.LeakyReLU(0.1))
    names = vars(module)
    names["In"] = course.sources(FIGURES[figure])

    def fill(network: torch.nn.Sequential) -> None:
        layers = [layer for layer in network if hasattr(layer, "weight")]
        for i, layer in enumerate(layers):
            layer.weight.data, layer.bias.data = stored[f"weight{i}"], stored[f"bias{i}"]

    if figure == "map":
        names |= {"vae_2d": module.VAE(784, 512, 256, 2), "z_2d": stored["codes"]}
        names["labels_heldout"] = stored["digits"].long()
        fill(names["vae_2d"].decoder)
    elif figure == "traversal":
        images = torch.from_numpy(np.unpackbits(stored["bits"].numpy(), axis=1)).float()
        names |= {"model": (model := module.VAE(784, 512, 256, 10)), "x_heldout_bin": images, "kl_j": stored["kl"]}
        names["strongest"] = stored["kl"].argsort(descending=True)
        fill(model.decoder)
        # an encoder that knows the hundred images
        model.encode = lambda x: [stored["mu"][(x[:, None] == images).all(-1).int().argmax(1)]] * 2
    elif figure == "styles":
        names |= {"model": (model := module.ConvVAE(classes=5)), "x": stored["given"] / 255, "some": torch.arange(10)}
        names |= {"styles": stored["styles"], "shown": list(enumerate(module.draw_shapes(1).classes))}
        fill(model.draw)
    elif figure == "trick":
        names["kept"] = stored["eps"]
    else:
        vars(module).update(
            vars(course.run_cells(FIGURES[figure], tagged(figure), {"explore(draw": "(lambda *_, **__: 0)(draw"}))
        )
    return names


class Notebook:
    """The figure as the notebook draws it, from the stored numbers."""

    def __init__(self, figure: str) -> None:
        names = restore(figure)

        def explore(draw, labels, figsize, **limits):
            self.fig = Figure(figsize=figsize)
            self.move, self.limits, self.labels = draw(self.fig), limits, labels

        exec(names["In"][tagged(figure)], names | {"explore": explore})

    def shows(self, values: dict[str, float]) -> tuple[str, list[np.ndarray]]:
        """Its sentence, and its images."""
        sentence = self.move(**values)
        return sentence, [np.asarray(image.get_array()) for ax in self.fig.axes for image in ax.images]


def test_every_file_is_of_a_figure_and_small():
    files = sorted(path.stem for path in live.LIVE.glob("*.js") if path.stem != "live")
    assert files == sorted(FIGURES) == sorted(live.TENSORS)
    assert {name: size for name in files if (size := (live.LIVE / f"{name}.js").stat().st_size) > 1e6} == {}


@pytest.mark.slow
@each_figure
def test_labels_limits_panels_and_sentence_are_those_of_the_notebook(figure):
    names, stored = restore(figure), live.read(figure)
    described = live.describe(names["In"][tagged(figure)], names)
    plain = live.json.loads(live.json.dumps(described))
    assert plain == {key: value for key, value in stored.items() if key != "tensors"}


@pytest.mark.slow
@each_figure
def test_the_tensors_are_those_that_the_notebook_s_code_gives(figure):
    again, found = live.TENSORS[figure](restore(figure)), live.load(figure)
    assert list(again) == list(found)
    for name, value in again.items():
        assert value.shape == found[name].shape, name
        np.testing.assert_allclose(live.unpack(*live.pack(value)), found[name], atol=2e-3, err_msg=name)


def test_what_is_packed_comes_back_rounded():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(300, 400)).astype("f4")
    error = np.abs(live.unpack(*live.pack(matrix)) - matrix).max(axis=1)
    assert (error < 0.51 * np.abs(matrix).max(axis=1) / 1023 + 1e-4).all()
    for value in (matrix[:3, :5], np.arange(7)):
        np.testing.assert_allclose(live.unpack(*live.pack(value)), value, rtol=1e-3)


@pytest.mark.slow
@each_of_stills
def test_the_stored_numbers_draw_the_still_figure(figure):
    names = restore(figure)
    code = [cell for cell in course.load(FIGURES[figure]).cells if cell.cell_type == "code"]
    still = code[tagged(figure) + 1]
    (picture,) = [output.data["image/png"] for output in still.outputs]
    with plt.rc_context():
        plt.switch_backend("agg")
        names["use_style"]()
        before = code[tagged(figure)].source
        exec(before, names | {"explore": lambda *_, **__: None})
        exec(re.sub(r"^explore\(.*", "", before, flags=re.MULTILINE) + "\n" + still.source, names)
        drawn = print_figure(plt.gcf(), "png", bbox_inches="tight")
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in (live.base64.b64decode(picture), drawn)]
    width, height = np.min([picture.size for picture in pictures], axis=0)
    assert max(picture.width - width + picture.height - height for picture in pictures) < 6
    small = [  # upper edges differ by a few pixels, and colours by the 256 that are stored
        np.asarray(
            picture.crop((0, picture.height - height, width, picture.height)).resize((200, 120), Image.Resampling.BOX),
            dtype=float,
        )
        for picture in pictures
    ]
    assert np.abs(small[0] - small[1]).mean() < 4


# ---- in a browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site and the slides, each made once: site/html and deck/."""
    folder = tmp_path_factory.mktemp("live")
    command = [sys.executable, *f"-m sphinx -M html . {folder}/site -c docs -E -q -W --keep-going".split()]
    subprocess.run(command, cwd=course.COURSE, check=True)
    slides.make(folder / "deck")
    return folder


def address(folder, where: str, figure: str) -> str:
    """Of the page that has the figure: a file, because none of it needs a server."""
    name = FIGURES[figure]
    page = (
        folder / "site" / "html" / "notebooks" / f"{name}.html" if where == "site" else folder / "deck" / f"{name}.html"
    )
    return page.as_uri()


def turn_to(page, figure: str):
    """The figure, on its slide if it is in a deck, when it has been drawn."""
    box = page.locator(f"[data-figure={figure}]")
    if "/deck/" in page.url:
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        box.evaluate("box => { const at = Reveal.getIndices(box.closest('section')); Reveal.slide(at.h, at.v, 99); }")
    box.evaluate("box => box.scrollIntoView({ block: 'center', behavior: 'instant' })")
    page.wait_for_selector(f"[data-figure={figure}][data-ready]", timeout=300_000)
    return box


SEEN = """box => ({
    values: Object.fromEntries([...box.querySelectorAll("input")].map(slider => [slider.name, slider.valueAsNumber])),
    sentence: box.querySelector(".sentence").textContent,
    images: [...box.querySelectorAll(".image")].map(canvas => {
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return Array.from({ length: canvas.height }, (_, row) =>
            Array.from({ length: canvas.width }, (_, column) =>
                [0, 1, 2].map(color => data[4 * (row * canvas.width + column) + color] / 255)));
    }),
    drawn: [...box.querySelectorAll("canvas")].map(canvas => canvas.toDataURL()).join(),
    height: box.offsetHeight,
})"""


def look(box, notebook: Notebook) -> dict[str, Any]:
    """What the page shows, after a comparison with what the notebook computes for the same values."""
    seen = box.evaluate(SEEN)
    values = {key: type(notebook.limits[key][0])(value) for key, value in seen["values"].items()}
    sentence, images = notebook.shows(values)
    assert NUMBER.sub("#", seen["sentence"]) == NUMBER.sub("#", sentence)
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (seen["sentence"], sentence)]
    assert numbers[0] == pytest.approx(numbers[1], abs=0.0101)
    assert len(seen["images"]) == len(images)
    for picture, image in zip(seen["images"], images, strict=True):
        color = image if image.ndim == 3 else 1 - image[..., None]  # ink is dark
        assert np.abs(np.array(picture) - color).max() < 0.01
    return seen


def mouse(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def touch(page, start, end):
    session = page.context.new_cdp_session(page)
    for kind, points in (("Start", [start]), ("Move", [end]), ("End", [])):
        spots = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": spots})
    session.detach()


def spot(element, across: float, down: float) -> tuple[float, float]:
    """A place in an element of the page, as shares of its width and height."""
    box = element.bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("where", ["site", "deck"])
@each_figure
def test_moved_by_keyboard_mouse_and_touch_it_shows_what_pytorch_computes(browser, folder, figure, where, width):
    notebook, complaints = Notebook(figure), []
    context = browser.new_context(
        viewport={"width": width, "height": 740}, has_touch=True, color_scheme="dark" if width == 360 else "light"
    )
    page = context.new_page()
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    page.goto(address(folder, where, figure))
    before = page.locator(f"[data-figure={figure}]").evaluate("box => box.offsetHeight")
    box = turn_to(page, figure)
    seen = look(box, notebook)
    assert seen["values"] == {key: start for key, (_, _, start) in notebook.limits.items()}
    height = seen["height"]
    assert height == before or where == "deck", "the figure grew when it came"

    def changed(old):
        new = look(box, notebook)
        assert new["values"] != old["values"]
        assert new["drawn"] != old["drawn"]
        assert new["height"] == height
        return new

    for name, (low, high, _) in notebook.limits.items():
        slider = box.get_by_role("slider", name=notebook.labels[name], exact=True)
        slider.focus()
        page.keyboard.press("ArrowLeft" if seen["values"][name] >= high else "ArrowRight")
        seen = changed(seen)
        for drag, to in ((mouse, 0.8), (touch, 0.2)):
            slider.evaluate("slider => slider.scrollIntoView({ block: 'center', behavior: 'instant' })")
            share = (seen["values"][name] - low) / (high - low)
            drag(page, spot(slider, 0.03 + 0.94 * share, 0.5), spot(slider, to, 0.5))
            seen = changed(seen)
            assert (seen["values"][name] - low) / (high - low) == pytest.approx(to, abs=0.08)
    for plane in box.locator(".drag").all():
        plane.evaluate("plane => plane.scrollIntoView({ block: 'center', behavior: 'instant' })")
        for drag, to in ((mouse, (0.75, 0.3)), (touch, (0.4, 0.7))):
            drag(page, spot(plane, 0.5, 0.5), spot(plane, *to))
            seen = changed(seen)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert complaints == []
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{figure}_{where}_{width}.png")
    context.close()


@pytest.mark.slow
@each_figure
def test_without_javascript_and_on_paper_the_still_figure_stands(browser, folder, figure):
    for where, script, media in (("site", False, "screen"), ("site", True, "print"), ("deck", True, "print")):
        context = browser.new_context(java_script_enabled=script)
        page = context.new_page()
        page.emulate_media(media=media)
        page.goto(address(folder, where, figure) + ("?print-pdf" if where == "deck" else ""))
        if where == "deck":
            page.wait_for_selector(".pdf-page")
        box = page.locator(f"[data-figure={figure}]")
        still = box.locator("xpath=following-sibling::*//img|following-sibling::img" if where == "deck" else STILL)
        assert not box.is_visible()
        assert still.first.is_visible()
        context.close()
