"""Sliders beside the maths: one figure, of which only the moving parts are drawn again when a slider moves."""

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
Limits = tuple[float, float, float]  # lowest, highest, start


def explore(draw: Draw, labels: dict[str, str], figsize: tuple[float, float], **controls: Limits) -> widgets.VBox:
    """A number with a slider for each of `controls`, above the picture that `draw` makes.

    `draw(fig)` draws once into the empty figure `fig` and returns a function `move(**values)`, which is called for each
    new position: it changes what was drawn with `animated=True`, and returns one sentence with the numbers shown, which
    is also the picture's alternative text. `labels` gives each control's name in words. Only this one figure is ever
    kept, and it is not in matplotlib's list of open figures. Works with ipywidgets 7.7 and 8.
    """
    fig = Figure(figsize=figsize)
    canvas = FigureCanvasAgg(fig)
    move = draw(fig)
    canvas.draw()
    background, moving = canvas.copy_from_bbox(fig.bbox), _moving(fig)
    rows = {name: _control(labels[name], limits) for name, limits in controls.items()}
    numbers = {name: row.children[0] for name, row in rows.items()}
    picture, caption = widgets.HTML(), widgets.HTML()

    def update(change: object = None) -> None:
        sentence = move(**{name: number.value for name, number in numbers.items()})
        canvas.restore_region(background)
        for artist in moving:
            fig.draw_artist(artist)
        png = io.BytesIO()
        plt.imsave(png, canvas.buffer_rgba(), format="png", pil_kwargs={"compress_level": 1})
        source = base64.b64encode(png.getvalue()).decode()
        picture.value = f'<img alt="{escape(sentence)}" src="data:image/png;base64,{source}">'
        caption.value = escape(sentence)

    for number in numbers.values():
        number.observe(update, names="value")
    update()
    return widgets.VBox([*rows.values(), picture, caption])


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


def _control(label: str, limits: Limits) -> widgets.HBox:
    """A number and its slider; both whole if the limits are.

    Screen readers find the label of a number field, but not that of a slider.
    """
    low, high, value = limits
    whole = all(isinstance(limit, int) for limit in limits)
    number, slider = (
        (widgets.BoundedIntText, widgets.IntSlider) if whole else (widgets.BoundedFloatText, widgets.FloatSlider)
    )
    looks = {"description": label, "style": {"description_width": "initial"}, "layout": {"width": "21em"}}
    span = {"value": value, "min": low, "max": high, "step": 1 if whole else 0.05}
    row = widgets.HBox([number(**span, **looks), slider(**span, readout=False)])
    # the browser computes a slider's value and sends 0.30000000000000004
    transform = (lambda value: value, lambda value: round(value, 2))
    widgets.link((row.children[0], "value"), (row.children[1], "value"), transform=transform)
    return row
