"""The course's own colour pictures are what they say they are; and any folder is read, or a sentence says why not."""

import numpy as np
import pytest
import short
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from torchvision.datasets import ImageFolder

from tools.cells import FOLDER
from utils import pictures
from utils.pictures import KINDS, draw_shapes, load_folder, render, show_pictures

GREEN = (0, 128, 0)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """A folder with one picture is enough, except where a test is about that."""
    monkeypatch.setattr(pictures, "FEWEST", 1)


def only(folder):
    """The levels of the only picture in the folder, (32, 32, 3), 0 to 255."""
    read = load_folder(folder)
    assert (len(read.images), read.skipped) == (1, [])
    return read.images[0].permute(1, 2, 0).mul(255).round().int()


def is_plain(levels, colour):
    return bool((levels == torch.tensor(colour)).all())


# ---- drawn pictures


def test_drawn_pictures_are_8_bit_colour_with_known_labels_and_causes():
    drawn = draw_shapes(300)
    assert drawn.images.shape == (300, 3, 32, 32)
    assert torch.equal((drawn.images * 255).round() / 255, drawn.images)
    assert 0 <= drawn.images.min() < 0.1
    assert 0.9 < drawn.images.max() <= 1
    assert sorted(set(drawn.labels.tolist())) == list(range(len(KINDS)))
    assert all(cause.shape == (300,) for cause in drawn.causes.values())


def test_the_same_seed_draws_the_same_and_another_seed_others():
    first, again, other = draw_shapes(5), draw_shapes(5), draw_shapes(5, seed=1)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_causes_are_independent_of_each_other_and_of_the_label():
    drawn = draw_shapes(4000)
    causes = torch.stack([*drawn.causes.values(), *(drawn.labels == torch.arange(5)[:, None]).float()])
    correlations = causes.corrcoef()[:5] - torch.eye(5, 10)
    assert correlations.abs().max() < 0.07


def one(label, **causes):
    """The ink of one shape, (32, 32), black on white up to grain: 1 where the shape is."""
    given = {"x": 16.0, "y": 16.0, "size": 8.0, "hue": 0.0, "shade": 0.9} | causes
    picture = render(torch.tensor([label]), **{name: torch.tensor([value]) for name, value in given.items()})[0]
    return (0.9 - picture[1]) / 0.8  # green: 0.1 in a red shape, 0.9 outside


# areas in units of size²: circle, square of half side 0.85, equilateral triangle of inradius 0.6, ring, cross
AREAS = [3.1416, 4 * 0.85**2, 3 * 3**0.5 * 0.6**2, 3.1416 * 0.75, 4 * 0.6 - 0.36]


@pytest.mark.parametrize("label", range(5), ids=KINDS)
def test_a_shape_has_its_place_and_its_area(label):
    ink = one(label, x=13.0, y=18.0)
    down, right = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    assert ink.min() == pytest.approx(0, abs=1e-5)
    assert ink.sum() == pytest.approx(AREAS[label] * 64, rel=0.03)
    assert (ink * right).sum() / ink.sum() == pytest.approx(13, abs=0.1)
    assert (ink * down).sum() / ink.sum() == pytest.approx(18, abs=0.3)


def test_shapes_differ():
    inks = torch.stack([one(label) for label in range(5)]).flatten(1)
    assert (torch.cdist(inks, inks) + 100 * torch.eye(5)).min() > 4


def test_hue_goes_from_red_over_green_to_blue():
    thirds = torch.arange(3) / 3
    discs = render(torch.zeros(3, dtype=torch.long), *torch.full((3, 3), 16.0), thirds, torch.ones(3))
    torch.testing.assert_close(discs[:, :, 16, 16], 0.1 + 0.8 * torch.eye(3), atol=1e-5, rtol=0)


# ---- folders


def save_many(folder, n, colour=GREEN):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", (32, 32), colour).save(folder / f"{i}.png")


def test_pixels_survive_the_way_through_a_folder(tmp_path):
    drawn = draw_shapes(12)
    for i, (image, label) in enumerate(zip(drawn.images, drawn.labels, strict=True)):
        folder = tmp_path / KINDS[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(folder / f"{i:02}.png")
    read = load_folder(tmp_path)
    order = sorted(range(12), key=lambda i: (KINDS[drawn.labels[i]], i))
    assert torch.equal(read.images, drawn.images[order])
    assert [read.classes[label] for label in read.labels] == [KINDS[label] for label in drawn.labels[order]]


def test_class_folders_are_those_of_torchvision(tmp_path):
    for name, n in {"dog": 2, "cat": 3, "bird": 1}.items():
        save_many(tmp_path / name, n)
    save_many(tmp_path / "dog" / "puppies", 2)
    read, reference = load_folder(tmp_path), ImageFolder(tmp_path)
    assert read.classes == reference.classes
    assert sorted(read.labels.tolist()) == sorted(reference.targets)


def test_a_flat_folder_has_one_label_and_so_have_pictures_beside_class_folders(tmp_path):
    save_many(tmp_path / "holiday", 3)
    assert load_folder(tmp_path / "holiday").classes == ["holiday"]
    save_many(tmp_path / "holiday" / "beach", 2)
    read = load_folder(f"{tmp_path}/holiday")
    assert [read.classes[label] for label in read.labels].count("beach") == 2
    assert read.classes == ["beach", "holiday"]


def test_hidden_folders_and_other_files_are_passed_over(tmp_path):
    save_many(tmp_path / ".ipynb_checkpoints", 2)
    save_many(tmp_path / "a", 2)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    read = load_folder(tmp_path)
    assert (len(read.images), read.classes, read.skipped) == (2, ["a"], [])


def test_an_unreadable_file_is_skipped_and_named(tmp_path, capsys):
    save_many(tmp_path / "a", 2)
    (tmp_path / "a" / "broken.jpg").write_bytes(b"no picture")
    whole = (tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "a" / "half.png").write_bytes(whole[: len(whole) // 2])
    read = load_folder(tmp_path)
    assert len(read.images) == 2
    assert [name.split(" (")[0] for name in read.skipped] == ["a/broken.jpg", "a/half.png"]
    printed = capsys.readouterr().out
    assert printed.startswith("Skipped 2 of 4 files: a/broken.jpg (cannot identify image file")
    assert str(tmp_path) not in printed


def test_only_the_first_of_many_unreadable_files_are_named(tmp_path, capsys):
    save_many(tmp_path, 1)
    for i in range(9):
        (tmp_path / f"broken{i}.png").write_bytes(b"")
    assert len(load_folder(tmp_path).skipped) == 9
    assert "and 4 more" in capsys.readouterr().out


FORMATS = {"1": "png", "L": "png", "LA": "png", "P": "png", "RGBA": "png", "HSV": "webp"}
FORMATS |= dict.fromkeys(["CMYK", "LAB", "PA", "RGBX", "YCbCr"], "tiff")


@pytest.mark.parametrize("mode", FORMATS)
def test_white_is_white_in_any_mode(tmp_path, mode):
    white = Image.new("L", (40, 40), 255)
    image = {
        "LAB": lambda: Image.new("LAB", (40, 40), (255, 128, 128)),
        "PA": lambda: white.convert("LA").convert("PA"),
    }.get(mode, lambda: white.convert("RGB").convert(mode))()
    image.save(tmp_path / f"x.{FORMATS[mode]}")
    assert (only(tmp_path) >= 253).all()


def test_grey_stays_grey(tmp_path):
    Image.new("L", (32, 32), 77).save(tmp_path / "x.png")
    assert is_plain(only(tmp_path), (77, 77, 77))


def test_a_palette_keeps_its_colours_and_its_transparent_one_becomes_white(tmp_path):
    image = Image.new("P", (32, 32), 1)
    image.putpalette([255, 0, 0, *GREEN])
    image.paste(0, (0, 0, 16, 32))
    image.save(tmp_path / "x.png", transparency=0)
    levels = only(tmp_path)
    assert is_plain(levels[:, :16], (255, 255, 255))
    assert is_plain(levels[:, 16:], GREEN)


def test_transparency_lies_on_white(tmp_path):
    Image.new("RGBA", (32, 32), (0, 0, 0, 51)).save(tmp_path / "x.png")
    assert is_plain(only(tmp_path), (204, 204, 204))


def test_a_photo_stands_upright(tmp_path):
    image = Image.new("RGB", (64, 64), "white")
    image.paste((0, 0, 0), (0, 0, 64, 32))  # black above
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned by 90 degrees clockwise
    image.save(tmp_path / "x.png", exif=exif)
    levels = only(tmp_path)
    assert (levels[:, :15].min(), levels[:, 17:].max()) == (255, 0)  # what was above is now at the right


@pytest.mark.parametrize(("value", "level"), [(0, 0), (257 * 100, 100), (65535, 255)])
def test_16_bit_pictures_keep_their_brightness(tmp_path, value, level):
    Image.fromarray(np.full((32, 32), value, np.uint16)).save(tmp_path / "x.png")
    assert is_plain(only(tmp_path), (level,) * 3)


def test_pixels_without_a_range_are_refused(tmp_path, capsys):
    save_many(tmp_path, 1)
    Image.new("F", (32, 32), 0.5).save(tmp_path / "x.tiff")
    assert load_folder(tmp_path).skipped == ["x.tiff (pixels without a known range)"]


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "black")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert is_plain(only(tmp_path), (255, 255, 255))


@pytest.mark.parametrize("turned", [False, True])
def test_the_central_square_is_cut_out_and_resized(tmp_path, turned):
    image = Image.new("RGB", (300, 100), "red")
    image.paste(GREEN, (100, 0, 200, 100))
    (image.transpose(Image.Transpose.ROTATE_90) if turned else image).save(tmp_path / "x.png")
    levels = only(tmp_path)
    assert levels.shape == (32, 32, 3)
    assert is_plain(levels[4:28, 4:28], GREEN)


def test_a_small_picture_is_enlarged(tmp_path):
    Image.new("RGB", (3, 5), GREEN).save(tmp_path / "x.png")
    assert load_folder(tmp_path, size=64).images.shape == (1, 3, 64, 64)


def test_a_large_jpeg_keeps_its_colour(tmp_path):
    Image.new("RGB", (3000, 2000), (200, 60, 60)).save(tmp_path / "x.jpg", quality=95)
    assert (only(tmp_path) - torch.tensor((200, 60, 60))).abs().max() <= 3


def test_too_few_pictures_are_counted(tmp_path, monkeypatch):
    monkeypatch.undo()
    save_many(tmp_path, 5)
    with pytest.raises(ValueError, match="has 5 readable pictures: give at least 50"):
        load_folder(tmp_path)


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"has no readable pictures: .* \.jpg .*"):
        load_folder(tmp_path)


def test_a_path_that_does_not_exist():
    with pytest.raises(FileNotFoundError, match="there is no folder 'no/such'"):
        load_folder("no/such")


def test_a_file_in_place_of_a_folder(tmp_path):
    save_many(tmp_path, 1)
    with pytest.raises(NotADirectoryError, match="is a file; give the folder that it is in"):
        load_folder(tmp_path / "0.png")


# ---- figures


def test_rows_of_pictures_keep_their_places_and_grey_ones_their_grey():
    x = torch.linspace(-1, 2, 12).view(2, 3, 1, 1, 2).expand(2, 3, 1, 5, 2)
    fig = show_pictures({"first": x[0], "second": x[1]}, titles=["a", "b", "c"])
    (ax,) = fig.axes
    sheet = ax.images[0].get_array()
    assert sheet.shape == (2 * 7, 3 * 4, 3)
    expected = torch.linspace(-1, 2, 12).clamp(0, 1).view(2, 3, 2)
    for row in range(2):
        for column in range(3):
            shown = sheet[7 * row + 3, 4 * column + 1 : 4 * column + 3]
            np.testing.assert_allclose(shown, expected[row, column][:, None].expand(2, 3))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b", "c"]


# ---- notebook 08, whole, on somebody's folder


@pytest.mark.slow
def test_notebook_08_runs_on_a_folder_by_changing_one_line(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(75):
        folder = tmp_path / "abc"[i % 3]
        folder.mkdir(exist_ok=True)
        levels = generator.integers(0, 256, (40, 30, 3) if i % 2 else (30, 40), dtype=np.uint8)  # colour or grey
        Image.fromarray(levels).save(folder / f"{i}.png")
    cells = short.sources("08_your_own_pictures")
    (line,) = [i for i, cell in enumerate(cells) if cell.startswith("pictures = draw_shapes(4000)")]
    cells[line] = f"pictures = load_folder({str(tmp_path)!r}, size=24)"
    notebook = new_notebook(
        cells=[*map(new_code_cell, cells), new_code_cell("print(tuple(x.shape), pictures.classes)")]
    )
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
    assert notebook.cells[-1].outputs[0].text == "(75, 3, 24, 24) ['a', 'b', 'c']\n"
