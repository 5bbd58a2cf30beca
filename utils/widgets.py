"""Sliders beside the maths: one picture, of which only the moving parts are drawn again when a slider moves."""

import base64
import io
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase

Move = Callable[..., str]
Draw = Callable[[FigureBase], Move]
Control = tuple[float, float, float] | list[Any]  # lowest, highest, start; or what to choose from, the first at start


def explore(draw: Draw, labels: dict[str, str], figsize: tuple[float, float], **controls: Control) -> widgets.VBox:
    """A number with a slider, or a list to choose from, for each of `controls`, above the picture that `draw` makes.

    `draw(fig)` draws once into the empty figure `fig` and returns a function `move(**values)`, which is called for each
    new position: it changes what was drawn with `animated=True`, and returns the numbers to see as one sentence, which
    is also the picture's alternative text. `labels` gives each control's name in words. Only this one figure is ever
    kept, and matplotlib's list of open figures doesn't know it. Works with ipywidgets 7.7 and 8.
    """
    fig = Figure(figsize=figsize)
    canvas = FigureCanvasAgg(fig)
    move = draw(fig)
    canvas.draw()
    background, moving = canvas.copy_from_bbox(fig.bbox), _moving(fig)
    boxes, rows = {}, []
    for name, control in controls.items():
        boxes[name], row = _control(labels[name], control)
        rows.append(row)
    picture, caption = widgets.HTML(), widgets.HTML()

    def update(change: object = None) -> None:
        sentence = move(**{name: box.value for name, box in boxes.items()})
        canvas.restore_region(background)
        for artist in moving:
            fig.draw_artist(artist)
        png = io.BytesIO()
        plt.imsave(png, canvas.buffer_rgba(), format="png", pil_kwargs={"compress_level": 1})
        source = base64.b64encode(png.getvalue()).decode()
        picture.value = f'<img alt="{escape(sentence)}" src="data:image/png;base64,{source}">'
        caption.value = escape(sentence)

    for box in boxes.values():
        box.observe(update, names="value")
    update()
    return widgets.VBox([*rows, picture, caption])


def stills(draw: Draw, *positions: dict[str, Any], figsize: tuple[float, float]) -> Figure:
    """The picture of `explore` at several positions under each other, each of size `figsize`, with its sentence."""
    fig = plt.figure(figsize=(figsize[0], figsize[1] * len(positions)))
    for part, values in zip(fig.subfigures(len(positions), squeeze=False).flat, positions, strict=True):
        part.suptitle(draw(part)(**values), fontsize=9)
        for artist in _moving(part):
            artist.set_animated(False)
    return fig


def _moving(fig: FigureBase) -> list[Artist]:
    """What was drawn with `animated=True`, from back to front."""
    return sorted(fig.findobj(Artist.get_animated), key=Artist.get_zorder)


def _control(label: str, control: Control) -> tuple[widgets.Widget, widgets.Widget]:
    """What holds the value, and what is shown: a list, or a number and its slider, for whole numbers if given those.

    The number is there because a screen reader reads its label, and doesn't find that of a slider.
    """
    looks = {"description": label, "style": {"description_width": "initial"}}
    if isinstance(control, list):
        choice = widgets.Dropdown(options=control, **looks)
        return choice, choice
    low, high, start = control
    whole = all(isinstance(number, int) for number in control)
    number, slider = (
        (widgets.BoundedIntText, widgets.IntSlider) if whole else (widgets.BoundedFloatText, widgets.FloatSlider)
    )
    limits = {"value": start, "min": low, "max": high, "step": 1 if whole else 0.05}
    number, slider = number(**limits, **looks, layout={"width": "21em"}), slider(**limits, readout=False)
    # a slider counts its steps in the browser, and comes back with 0.30000000000000004
    widgets.link((number, "value"), (slider, "value"), transform=(lambda value: value, lambda value: round(value, 2)))
    return number, widgets.HBox([number, slider])
