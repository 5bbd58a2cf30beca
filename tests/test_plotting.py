"""utils.plotting: the right panels and labels, and pixels where they belong."""

import warnings
from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch.testing import assert_close

from utils.plotting import (
    COLORS,
    DIGIT_COLORS,
    plot_history,
    scatter_codes,
    show_digits,
    show_rows,
    tile,
    use_style,
)
from utils.training import History


@pytest.fixture(autouse=True)
def clean():
    """No window, matplotlib's own settings; a warning is an error."""
    plt.switch_backend("Agg")
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        mpl.rcdefaults()
        yield


def images(n):
    """`n` images, each of one grey value, in a tensor that requires gradients."""
    grey = torch.linspace(0, 1, n) if n else torch.empty(0)
    return grey[:, None].expand(n, 784).clone().requires_grad_()


def drawn(fig):
    """What a figure shows: the mean of each image, in reading order, without the frame of paper around it."""
    picture = torch.as_tensor(fig.axes[0].images[0].get_array())
    return [float(image[1:-1, 1:-1].mean()) for row in picture.split(30) for image in row.split(30, dim=1)]


def labels(fig):
    """The texts above the columns and beside the rows."""
    return [[text.get_text() for text in axis.get_ticklabels()] for axis in (fig.axes[0].xaxis, fig.axes[0].yaxis)]


# ---- style and colours


def test_use_style_sets_the_defaults_of_the_course():
    use_style()
    assert plt.rcParams["image.cmap"] == "gray_r"
    assert plt.rcParams["figure.dpi"] == 100
    assert plt.rcParams["figure.constrained_layout.use"] is True
    assert plt.rcParams["axes.spines.top"] is False


def test_colours_are_distinct():
    assert {"data", "reconstruction", "prior", "posterior", "approximate", "kl"} <= set(COLORS)
    assert len(DIGIT_COLORS) == 10
    for colors in (COLORS.values(), DIGIT_COLORS):
        for first, second in combinations([torch.tensor(to_rgb(color)) for color in colors], 2):
            assert (first - second).abs().max() > 0.15


# ---- images


@pytest.mark.parametrize(
    ("n", "ncols", "rows_and_columns"),
    [(1, 10, (1, 1)), (10, 10, (1, 10)), (11, 10, (2, 10)), (5, 2, (3, 2)), (4, 1, (4, 1))],
)
def test_show_digits_draws_each_image_in_reading_order(n, ncols, rows_and_columns):
    use_style()
    x = images(n)
    fig = show_digits(x, ncols=ncols)
    assert isinstance(fig, Figure)
    rows, columns = rows_and_columns
    assert drawn(fig) == pytest.approx(x.detach()[:, 0].tolist() + [0] * (rows * columns - n), abs=1e-6)
    assert fig.axes[0].images[0].get_clim() == (0, 1)
    assert fig.axes[0].images[0].get_cmap().name == "gray_r"
    assert labels(fig) == [[""] * columns, [""] * rows]
    fig.canvas.draw()


def test_show_digits_keeps_an_image_upright():
    x = torch.arange(784.0)[None] / 784
    shown = show_digits(x).axes[0].images[0]
    assert_close(torch.as_tensor(shown.get_array())[1:-1, 1:-1], x.reshape(28, 28))
    assert shown.origin == "upper"


def test_show_digits_takes_square_images_and_titles_of_the_columns():
    fig = show_digits(images(3).reshape(3, 1, 28, 28), ncols=2, titles=["a", "b"])
    assert labels(fig) == [["a", "b"], ["", ""]]
    assert fig.axes[0].get_xticks().tolist() == [14.5, 44.5]  # the middles of the columns
    with pytest.raises(ValueError, match="number of labels"):
        show_digits(images(3), titles=["a", "b", "c", "d"]).canvas.draw()


def test_show_rows_names_each_row():
    fig = show_rows({"original": images(4), "reconstruction": images(2)}, ["a", "b", "c", "d"])
    assert isinstance(fig, Figure)
    assert labels(fig) == [["a", "b", "c", "d"], ["original", "reconstruction"]]
    assert fig.axes[0].get_yticks().tolist() == [14.5, 44.5]  # the middles of the rows
    assert drawn(fig) == pytest.approx([0, 1 / 3, 2 / 3, 1, 0, 1, 0, 0], abs=1e-6)
    fig.canvas.draw()


@given(nrows=st.integers(1, 5), ncols=st.integers(1, 5), frame=st.integers(0, 2))
def test_tile_puts_blocks_in_reading_order(nrows, ncols, frame):
    x = torch.rand(nrows * ncols, 784, requires_grad=True)
    side = 28 + 2 * frame
    picture = tile(x, ncols, frame)
    assert picture.shape == (side * nrows, side * ncols)
    assert not picture.requires_grad
    for i in range(nrows * ncols):
        top, left = side * (i // ncols) + frame, side * (i % ncols) + frame
        assert_close(picture[top : top + 28, left : left + 28], x[i].detach().reshape(28, 28), rtol=0, atol=0)


def test_tile_refuses_an_incomplete_row():
    with pytest.raises(RuntimeError):
        tile(torch.rand(5, 784), 2)


# ---- codes and curves


def test_scatter_codes_draws_each_code_as_its_digit():
    z = torch.randn(40, 2, requires_grad=True)
    labels = torch.arange(40) % 10
    ax = scatter_codes(z, labels)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("$z_1$", "$z_2$")
    assert len(ax.collections) == 10
    for digit, points in enumerate(ax.collections):
        assert_close(torch.as_tensor(points.get_offsets()).float(), z[labels == digit].detach())
        assert to_rgb(points.get_facecolor()[0]) == pytest.approx(to_rgb(DIGIT_COLORS[digit]))
    outlines = {points.get_paths()[0].vertices.tobytes() for points in ax.collections}
    assert len(outlines) == 10  # ten different markers
    ax.figure.canvas.draw()


def test_scatter_codes_takes_codes_without_some_digits():
    ax = scatter_codes(torch.randn(3, 2), torch.tensor([7, 7, 1]))
    assert [len(points.get_offsets()) for points in ax.collections] == [0, 1, 0, 0, 0, 0, 0, 2, 0, 0]
    ax.figure.canvas.draw()


HISTORY = History(
    train={"loss": [3.0, 2.0, 1.0], "kl": [0.0, 0.5, 0.6], "mse": [9.0, 8.0, 7.0], "top": [1.0, 1.0, 1.0]},
    heldout={"loss": [3.1, 2.1, 1.1], "kl": [0.0, 0.4, 0.5], "mse": [9.0, 8.5, 7.5], "top": [1.0, 1.0, 1.0]},
)


def test_plot_history_draws_terms_dashed_and_solid():
    ax = plot_history(HISTORY, ["loss", "kl"], "nats per image")
    assert ax.get_ylabel() == "nats per image"
    assert "epoch" in ax.get_xlabel()
    lines = {line.get_label(): line for line in ax.lines}
    assert list(lines) == ["loss, training", "loss, held out", "kl, training", "kl, held out"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(lines)
    assert [line.get_linestyle() for line in ax.lines] == ["--", "-", "--", "-"]
    assert list(lines["loss, held out"].get_ydata()) == [3.1, 2.1, 1.1]
    assert list(lines["loss, held out"].get_xdata()) == [0, 1, 2]
    assert lines["kl, training"].get_color() == lines["kl, held out"].get_color() == COLORS["kl"]


def test_plot_history_gives_a_term_one_colour_on_both_splits():
    lines = plot_history(HISTORY, ["mse", "top"], "squared error").lines
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color() == lines[3].get_color()


def test_plot_history_without_held_out_images():
    ax = plot_history(History(train=HISTORY.train), ["loss"], "nats per image")
    assert [line.get_label() for line in ax.lines] == ["loss, training"]


# ---- figures


@pytest.mark.parametrize(
    "draw",
    [
        lambda: show_digits(images(3)),
        lambda: show_rows({"a": images(3)}),
        lambda: scatter_codes(torch.randn(3, 2), torch.arange(3)),
        lambda: plot_history(HISTORY, ["loss"], "nats per image"),
    ],
    ids=["show_digits", "show_rows", "scatter_codes", "plot_history"],
)
def test_one_call_opens_one_figure(draw):
    draw()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: scatter_codes(torch.randn(3, 2), torch.arange(3), ax=ax),
        lambda ax: plot_history(HISTORY, ["loss"], "nats per image", ax=ax),
    ],
    ids=["scatter_codes", "plot_history"],
)
def test_given_axes_are_drawn_into(draw):
    _, (left, right) = plt.subplots(1, 2)
    assert draw(right) is right
    assert right.has_data()
    assert not left.has_data()
    assert len(plt.get_fignums()) == 1


def test_tile_opens_no_figure():
    tile(torch.rand(4, 784), 2)
    assert plt.get_fignums() == []
