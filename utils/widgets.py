"""Sliders beside the maths: one figure, drawn again in place whenever a slider moves."""

import io
from collections.abc import Callable

import ipywidgets as widgets
from matplotlib.figure import Figure

Slider = tuple[float, float, float]


def explore(
    draw: Callable[..., str], labels: dict[str, str], figsize: tuple[float, float] = (8.5, 3.2), **sliders: Slider
) -> widgets.VBox:
    """One slider for each of `sliders`, name = (lowest, highest, start), above the picture that `draw` makes of them.

    `draw(fig, **values)` draws into the empty figure `fig` and returns one sentence, shown below the picture for
    readers who can't see it. `labels` gives each slider's name in words. Only this one figure is ever kept, and
    matplotlib's list of open figures doesn't know it. Works with ipywidgets 7.7 and 8.
    """
    fig = Figure(figsize=figsize)
    image, caption = widgets.Image(format="png"), widgets.HTML()
    controls = {
        name: widgets.FloatSlider(
            value=start,
            min=low,
            max=high,
            step=(high - low) / 100,
            description=labels[name],
            style={"description_width": "initial"},
            layout={"width": "24em"},
        )
        for name, (low, high, start) in sliders.items()
    }

    def update(change: object = None) -> None:
        fig.clear()
        caption.value = draw(fig, **{name: control.value for name, control in controls.items()})
        png = io.BytesIO()
        fig.savefig(png, format="png")
        image.value = png.getvalue()

    for control in controls.values():
        control.observe(update, names="value")
    update()
    return widgets.VBox([*controls.values(), image, caption])
