"""Submissions as learning platforms export them: whose they are, which attempt, and what is in the file."""

import io
import json
import os
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.grading.collect import collect, identify, read

NOTEBOOK = nbformat.writes(new_notebook(cells=[new_code_cell("x = 1  # ü")])).encode()


def zipped(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return data.getvalue()


def hand_in(folder, files):
    """Write {path: content} below the folder; returns what is collected there."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return list(collect(folder))


def latest(found):
    return max(found, key=lambda one: (one.attempt, one.name))


@pytest.mark.parametrize("late", ["", "_late"])
def test_canvas_numbers_attempts(tmp_path, late):
    files = [f"lovelaceada{late}_4711_678_homework-1.ipynb", "lovelaceada_4711_677_homework.ipynb"]
    found = hand_in(tmp_path, dict.fromkeys(files, NOTEBOOK))
    assert {one.student for one in found} == {"lovelaceada"}
    assert latest(found).name == files[0]


def test_canvas_attempts_are_numbers_not_words(tmp_path):
    files = ["ada_4711_1000_homework.ipynb", "ada_4711_999_homework.ipynb"]
    assert latest(hand_in(tmp_path, dict.fromkeys(files, NOTEBOOK))).name == files[0]


def test_moodle_s_online_text_belongs_to_the_file_and_is_named(tmp_path):
    found = hand_in(
        tmp_path,
        {
            "Ada Lovelace_123_assignsubmission_file_/homework.ipynb": NOTEBOOK,
            "Ada Lovelace_123_assignsubmission_onlinetext_/onlinetext.html": b"<p>Dear all</p>",
        },
    )
    (one,) = found
    assert (one.student, one.problem) == ("Ada Lovelace", "")
    assert one.flags == ("Ada Lovelace_123_assignsubmission_onlinetext_: an online text, to be read",)


def test_moodle_s_online_text_alone_is_no_silence(tmp_path):
    (one,) = hand_in(tmp_path, {"Ada_1_assignsubmission_onlinetext_/onlinetext.html": b"x"})
    assert one.problem == "no notebook, only Ada_1_assignsubmission_onlinetext_: an online text, to be read"


def test_blackboard_names_the_student_in_the_middle(tmp_path):
    name = "HW1_ada.l_attempt_2026-11-0{}-10-20-30{}"
    files = {name.format(1, "_a.ipynb"): NOTEBOOK, name.format(2, "_a.ipynb"): NOTEBOOK}
    found = hand_in(tmp_path, files | {name.format(2, ".txt"): b"Name: Ada"})
    assert {one.student for one in found} == {"ada.l"}
    assert latest(found).name == name.format(2, "_a.ipynb")
    assert [one.problem for one in found] == ["", ""]


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("12345-678901 - Ada Lovelace - Nov 1, 2026 1020 AM/a.ipynb", "Ada Lovelace"),  # Brightspace
        ("Lovelace_Ada_alovelac_274534/a.ipynb", "Lovelace_Ada"),  # ILIAS
        ("Copy of Ada Lovelace.ipynb", "Ada Lovelace"),  # Google Classroom
        ("Ada Lovelace.zip", "Ada Lovelace"),
        ("Ada Lovelace/notebook.ipynb", "Ada Lovelace"),
        ("ada_lovelace_2_01_autoencoder.ipynb", "ada_lovelace_2_01_autoencoder"),
        ("HW_1_attempt_two.ipynb", "HW_1_attempt_two"),
        ("homework 2 - final.ipynb", "homework 2 - final"),
    ],
)
def test_names_are_those_that_people_know(tmp_path, name, student):
    content = zipped(a__ipynb=NOTEBOOK) if name.endswith(".zip") else NOTEBOOK
    (one,) = hand_in(tmp_path, {name: content})
    assert (one.student, one.problem) == (student, "")
    assert one.content() == NOTEBOOK


@pytest.mark.parametrize(
    "name", ["{}-1 - Ada - Nov 1, 2026/a.ipynb", "Ada_{}_assignsubmission_file_/a.ipynb", "ada_{}_77_a.ipynb"]
)
def test_two_of_one_name_stay_two(tmp_path, name):
    found = hand_in(tmp_path, {name.format(number): NOTEBOOK for number in (1001, 1002)})
    assert len({one.student for one in found}) == 2


def test_decomposed_letters_make_no_second_student():
    pairs = [identify_name(name) for name in ("José.ipynb", "Jose\u0301.ipynb")]
    assert pairs[0] == pairs[1]


def identify_name(name):
    class Entry:
        """A file with a name."""

        def __init__(self):
            self.name = name

        def is_dir(self):
            """It is a file."""
            return False

    return identify(Entry())


# ---- files within files


def test_zips_within_zips_are_opened_to_a_depth(tmp_path):
    inside = NOTEBOOK
    nested = {}
    for depth in range(5):
        inside = zipped(**{"a__ipynb" if depth == 0 else "b__zip": inside})
        nested[depth] = inside
    for depth, content in nested.items():
        (tmp_path / str(depth)).mkdir()
        (one,) = hand_in(tmp_path / str(depth), {"Ada.zip": content})
        assert (one.problem == "") == (depth < 3), (depth, one.problem)
        if not one.problem:
            assert one.content() == NOTEBOOK


def test_bombs_and_damage_are_named(tmp_path):
    found = hand_in(tmp_path, {"Bomb.zip": zipped(a__ipynb=bytes(60_000_000)), "Torn.zip": b"PK not really"})
    bomb, torn = found
    assert "more than 50 MB" in bomb.problem
    assert "can't be read" in torn.problem


@pytest.mark.parametrize("ending", [".ipynb.txt", ".ipynb.json", ".json", ".txt"])
def test_a_notebook_is_known_under_another_ending(tmp_path, ending):
    (one,) = hand_in(tmp_path, {f"Ada{ending}": NOTEBOOK})
    assert (one.student, one.problem) == ("Ada", "")
    assert one.flags == (f"Ada{ending} was read as a notebook",)
    assert read(one.content())[0].cells[0].source == "x = 1  # ü"


@pytest.mark.parametrize("content", [b'{"a": 1}', b"Dear all", b"\xff\x00\x81"])
def test_other_texts_are_no_notebooks(tmp_path, content):
    (one,) = hand_in(tmp_path, {"Ada.txt": content})
    assert one.problem == "no notebook, only Ada.txt"


def test_what_computers_add_is_left_out(tmp_path):
    files = ["Ada/a.ipynb", "Ada/.ipynb_checkpoints/a-checkpoint.ipynb", "Ada/__MACOSX/._a.ipynb", ".DS_Store"]
    (one,) = hand_in(tmp_path, dict.fromkeys(files, NOTEBOOK))
    assert one.name == "a.ipynb"


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret.ipynb").write_bytes(NOTEBOOK)
    (tmp_path / "in" / "Ada").mkdir(parents=True)
    (tmp_path / "in" / "Ada" / "a.ipynb").symlink_to(tmp_path / "secret.ipynb")
    (tmp_path / "in" / "Eve.ipynb").symlink_to(tmp_path / "secret.ipynb")
    (one,) = collect(tmp_path / "in")
    assert one.problem == "no notebook, only nothing"


@pytest.mark.parametrize(
    ("content", "mended"),
    [
        (NOTEBOOK, []),
        (b"\xef\xbb\xbf" + NOTEBOOK, []),
        (NOTEBOOK.decode().encode("utf-16"), ["the file was in UTF-16"]),
        (NOTEBOOK.decode().encode("utf-16-le"), ["the file was in UTF-16"]),
        (NOTEBOOK.decode().encode("utf-16-be"), ["the file was in UTF-16"]),
        (NOTEBOOK.replace(b"\n", b"\r\n"), []),
        (
            json.dumps(
                {
                    "nbformat": 3,
                    "nbformat_minor": 0,
                    "metadata": {"name": ""},
                    "worksheets": [
                        {
                            "metadata": {},
                            "cells": [
                                {
                                    "cell_type": "code",
                                    "input": ["x = 1  # ü"],
                                    "language": "python",
                                    "outputs": [],
                                    "metadata": {},
                                }
                            ],
                        }
                    ],
                }
            ).encode(),
            ["the notebook had the old format 3"],
        ),
    ],
)
def test_files_are_read_as_editors_write_them(content, mended):
    notebook, flags = read(content)
    assert [cell.source for cell in notebook.cells] == ["x = 1  # ü"]
    assert flags == mended


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty"), (b" \n", "empty"), (b'{"cells": [', "not a notebook"), (bytes(60_000_000) + b"x", "60 MB")],
)
def test_what_is_no_notebook_is_said(content, why):
    with pytest.raises(ValueError, match=why):
        read(content)
