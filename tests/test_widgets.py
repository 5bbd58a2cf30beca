"""The sliders draw into one figure, again and again, and keep no other."""

import matplotlib.pyplot as plt
import pytest

from utils.widgets import explore

PNG = b"\x89PNG"


def test_sliders_redraw_one_figure():
    figures, seen = set(), []

    def draw(fig, height):
        figures.add(id(fig))
        seen.append(height)
        assert not fig.axes  # cleared before every drawing
        fig.subplots().bar(["x"], [height])
        return f"height {height:.1f} nats"

    box = explore(draw, {"height": "height of the bar"}, height=(0.0, 4.0, 1.0))
    slider, image, caption = box.children
    assert slider.description == "height of the bar"
    assert (slider.min, slider.max, slider.value) == (0.0, 4.0, 1.0)
    first = bytes(image.value)
    assert first.startswith(PNG)
    assert caption.value == "height 1.0 nats"
    for step in range(30):
        slider.value = 3 + step / 100
    assert bytes(image.value) != first
    assert caption.value == "height 3.3 nats"
    assert len(figures) == 1
    assert len(seen) == 31
    assert plt.get_fignums() == []


def test_a_mistake_in_the_drawing_is_seen():
    def draw(fig, x):
        raise RuntimeError("no picture")

    with pytest.raises(RuntimeError, match="no picture"):
        explore(draw, {"x": "x"}, x=(0.0, 1.0, 0.5))
