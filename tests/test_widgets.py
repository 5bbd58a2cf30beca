"""Sliders move what is animated in one figure, again and again, and keep no other; the static twin shows the same."""

import base64
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from utils.widgets import explore, stills

LABELS = {"height": "height of the bar", "n": "how many"}


def draw(fig):
    ax = fig.subplots()
    ax.set(xlim=(-0.5, 0.5), ylim=(0, 4))
    (bar,) = ax.bar([0], [0], width=0.5, color="black", animated=True)

    def move(height, n=1):
        bar.set_height(height)
        return f"{n} bar <{height:.1f}> nats"

    return move


def picture(box):
    """The pixels that the widget shows, and their alternative text."""
    found = re.fullmatch(r'<img alt="(.*)" src="data:image/png;base64,(.*)">', box.children[-2].value)
    return plt.imread(io.BytesIO(base64.b64decode(found[2])))[..., :3], found[1]


def ink(box):
    """The share of black pixels."""
    return (picture(box)[0].max(axis=2) < 0.05).mean()


def test_a_slider_moves_only_what_is_animated_in_the_one_figure():
    calls = []

    def counted(fig):
        calls.append(fig)
        return draw(fig)

    box = explore(counted, LABELS, (4.0, 3.0), height=(0.0, 4.0, 1.0))
    row, _, caption = box.children
    number, slider = row.children
    assert number.description == "height of the bar"
    assert (number.min, number.max, number.value) == (0.0, 4.0, 1.0)
    assert (slider.min, slider.max, slider.value) == (0.0, 4.0, 1.0)
    assert caption.value == "1 bar &lt;1.0&gt; nats"
    assert picture(box)[1] == caption.value
    low = ink(box)
    slider.value = 4.0
    high = ink(box)
    slider.value = 1.0
    assert ink(box) == low  # nothing of the taller bar is left
    assert high - low > 0.1
    assert len(calls) == 1
    assert plt.get_fignums() == []


def test_numbers_are_whole_if_the_limits_are_and_have_no_rounding_errors():
    box = explore(draw, LABELS, (2.0, 2.0), height=(0.0, 4.0, 1.0), n=(1, 9, 2))
    (height, height_slider), (n, n_slider) = (row.children for row in box.children[:2])
    n_slider.value, height_slider.value = 7, 0.05 + 0.1 + 0.15
    assert (n.value, height.value) == (7, 0.3)
    assert isinstance(n.value, int)
    n.value = 3
    assert n_slider.value == 3
    assert box.children[-1].value == "3 bar &lt;0.3&gt; nats"


def test_the_static_twin_shows_every_position_with_its_sentence():
    fig = stills(draw, {"height": 1.0}, {"height": 3.0}, figsize=(4.0, 2.0))
    assert [part._suptitle.get_text() for part in fig.subfigs] == ["1 bar <1.0> nats", "1 bar <3.0> nats"]
    fig.canvas.draw()
    black = np.asarray(fig.canvas.buffer_rgba())[..., :3].max(axis=2) < 15
    upper, lower = np.split(black, 2)
    assert lower.sum() > 2 * upper.sum() > 0
    plt.close(fig)


def test_a_mistake_in_the_drawing_is_seen():
    def broken(fig):
        raise RuntimeError("no picture")

    with pytest.raises(RuntimeError, match="no picture"):
        explore(broken, {"x": "x"}, (2.0, 2.0), x=(0.0, 1.0, 0.5))
