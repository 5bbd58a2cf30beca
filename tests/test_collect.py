"""Submissions as learning platforms export them: whose they are, which attempt, and what is in the file."""

import io
import json
import os
import re
import unicodedata
import warnings
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tools.grading.__main__ import key
from tools.grading.collect import LONGEST, MOST_FILES, collect
from tools.grading.dates import moment
from tools.grading.reading import read

SOURCE = "x = 1  # ü"
NOTEBOOK = nbformat.writes(new_notebook(cells=[new_code_cell(SOURCE, id="answer")])).encode()
OTHER = nbformat.writes(new_notebook(cells=[new_code_cell("x = 2", id="other")])).encode()
DEEP = b"[" * 100_000
NO_NOTEBOOK = "no notebook (a file .ipynb, or a zip with one), only "


def zipped(files):
    """A zip of {path: content}."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 3, 12, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def encrypted():
    """A zip whose one member is marked as encrypted, in both places that say so."""
    data = bytearray(zipped({"a.ipynb": NOTEBOOK}))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def torn():
    """A zip with a member that was damaged on the way."""
    data = bytearray(zipped({"a.ipynb": NOTEBOOK}))
    data[60] ^= 255
    return bytes(data)


def hand_in(folder, files, content=NOTEBOOK):
    """Write {path: content}, or the same content to all paths, below the folder; returns what is collected there."""
    for path, data in (files if isinstance(files, dict) else dict.fromkeys(files, content)).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return list(collect(folder))


def students(found):
    return sorted({one.student for one in found})


def latest(found):
    """The name of the submission that counts, as the grade book decides."""
    return max((one.attempt, one.name) for one in found)[1]


# ---- one student, several attempts: the last one listed counts

BLACKBOARD = "HW1_ada.l_attempt_2026-11-0{}-10-20-30{}"
ONE_STUDENT = {
    "Canvas": ("lovelaceada", ["lovelaceada_4711_677_hw.ipynb", "lovelaceada_4711_678_hw-1.ipynb"]),
    "Canvas, late": ("lovelaceada", ["lovelaceada_4711_677_hw.ipynb", "lovelaceada_LATE_4711_678_hw-1.ipynb"]),
    "Canvas, late in small letters": ("ada", ["ada_late_4711_677_hw.ipynb", "ada_4711_678_hw.ipynb"]),
    "Canvas, numbers are no words": ("ada", ["ada_4711_999_hw.ipynb", "ada_4711_1000_hw.ipynb"]),
    "Canvas, underscore": ("o_connor", ["o_connor_4711_677_hw.ipynb", "o_connor_LATE_4711_678_hw.ipynb"]),
    "Canvas, one number": ("ada", ["ada_LATE_678_file.ipynb", "ada_678_file-1.ipynb"]),
    "Canvas, anonymous": ("anon_Ab1c2", ["anon_Ab1c2_677_hw.ipynb", "LATE_anon_Ab1c2_678_hw.ipynb"]),
    "Moodle, flat": ("Ada Lovelace", [f"Ada Lovelace_12_assignsubmission_file_04_vae{n}.ipynb" for n in ("", " (1)")]),
    "Moodle, two ways": ("Ada", ["Ada_12_assignsubmission_file/a.ipynb", "Ada_12_assignsubmission_file_/b.ipynb"]),
    "Blackboard": ("ada.l", [BLACKBOARD.format(n, "_a.ipynb") for n in (1, 2)]),
    "Brightspace": (
        "Ada Lovelace",
        [
            f"12345-678 - Ada Lovelace - {date}/04_vae.ipynb"
            for date in ("Nov 3, 2026 1117 PM", "November 4, 2026 117 AM")
        ],
    ),
    "Brightspace, three languages": (
        "Ada Lovelace",
        [
            f"12345-678 - Ada Lovelace - {date}/04_vae.ipynb"
            for date in (
                "31 October, 2026 1117 PM",
                "3 novembre 2026 0905",
                "03.11.2026 23:17",
                "4. Dezember 2026 08:00",
            )
        ],
    ),
    "Brightspace, flat": ("Ada", [f"12345-6{n} - Ada - {n} May, 2026 917 AM - a.ipynb" for n in (9, 10)]),
    "ILIAS": ("Lovelace_Ada", ["Lovelace_Ada_ada_l_274534/a.ipynb", "Lovelace_Ada_ada_l_274534/a (2).ipynb"]),
    "copies": ("Ada", ["Ada/04_vae.ipynb", "Ada/04_vae (2).ipynb", "Ada/04_vae (10).ipynb"]),
    "a folder and a zip": ("Ada", ["Ada.zip", "Ada/04_vae (1).ipynb"]),
    "composed and not": ("José", ["Jose\u0301/a.ipynb", "José/b.ipynb"]),
}


@pytest.mark.parametrize("platform", ONE_STUDENT)
@pytest.mark.parametrize("beside", [["Alan.ipynb"], ["Grace_99_assignsubmission_file_/a.ipynb", "Alan/b.ipynb"]])
def test_the_latest_attempt_of_one_student_counts(tmp_path, platform, beside):
    student, files = ONE_STUDENT[platform]
    contents = {name: zipped({"a.ipynb": NOTEBOOK}) if name.endswith(".zip") else NOTEBOOK for name in files}
    found = hand_in(tmp_path, contents | dict.fromkeys(beside, NOTEBOOK))
    for path in tmp_path.rglob("*.*"):
        os.utime(path, (1_800_000_000, 1_800_000_000))  # the order of unpacking says nothing
    found = [one for one in collect(tmp_path) if one.student not in ("Grace", "Alan")]
    assert students(found) == [student]
    assert len(found) == len(files)
    assert unicodedata.normalize("NFC", latest(found)) == files[-1]
    assert found[-1].name == latest(found)
    assert not any(one.problem or one.flags for one in found)


def test_without_a_platform_the_time_of_the_file_decides(tmp_path):
    hand_in(tmp_path, ["Ada/b.ipynb", "Ada/a.ipynb"])
    os.utime(tmp_path / "Ada" / "a.ipynb", (1_700_000_001, 1_700_000_001))
    os.utime(tmp_path / "Ada" / "b.ipynb", (1_700_000_000, 1_700_000_000))
    assert latest(collect(tmp_path)) == "Ada/a.ipynb"


def test_the_same_bytes_handed_in_again_keep_the_later_attempt(tmp_path):
    """Right, broken, right: the third is not taken for the first."""
    files = [f"12345-678 - Ada - {day} May, 2026 917 AM/04_vae.ipynb" for day in (3, 2, 1)]
    found = hand_in(tmp_path, dict(zip(files, (NOTEBOOK, b"{", NOTEBOOK), strict=True)))
    submissions = {key(one, "seed"): one for one in found}
    assert len(submissions) == 3
    assert latest(submissions.values()) == files[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "3 November, 2026 1117 PM": "2026-11-03 23:17:00",
        "Nov 3, 2026 11:17 PM": "2026-11-03 23:17:00",
        "Nov 3, 2026 11:17\u202fp.m.": "2026-11-03 23:17:00",
        "03.11.2026 23:17": "2026-11-03 23:17:00",
        "2026-11-03 23:17:05": "2026-11-03 23:17:00",
        "3. November 2026 23:17 Uhr": "2026-11-03 23:17:00",
        "3. März 2026, 00:05": "2026-03-03 00:05:00",
        "3. Ma\u0308rz 2026, 00:05": "2026-03-03 00:05:00",
        "12 juillet 2026 12:30 AM": "2026-07-12 00:30:00",
        "12 juin 2026 12h30": "2026-06-12 12:30:00",
        "1 de agosto de 2026 117 PM": "2026-08-01 13:17:00",
        "3 mei 2026": "2026-05-03 00:00:00",
        "11/3/2026 23:17": "",
        "03-11-2026 23:17": "",
        "31 February, 2026 1117 PM": "",
        "3 Novober, 2026 1317 PM": "",
        "3 Smarch, 2026 1117 PM": "",
        "3 November, 2026 11:17 nachm.": "",
        "2026年11月3日": "",
        "version 2026": "",
        "3 marraskuu 2026 23:17": "",  # November; not March
    }.items(),
)
def test_dates_are_read_or_not_but_never_guessed(text, expected):
    assert moment(text) == expected


@pytest.mark.parametrize(
    ("dates", "uncertain"),
    [
        (["3 November, 2026 1117 PM"], False),
        (["3 Smarch, 2026 1117 PM"], False),  # one attempt needs no date
        (["3 November, 2026 1117 PM", "4 November, 2026 1117 PM"], False),
        (["3 November, 2026 1117 PM", "4 Smarch, 2026 1117 PM"], True),
        (["3 Smarch, 2026 1117 PM", "4 Smarch, 2026 1117 PM"], True),
        (["3 November, 2026 1117 PM", "Nov 3, 2026 1117 PM"], True),
    ],
)
def test_an_unknown_order_is_reported(tmp_path, dates, uncertain):
    found = hand_in(tmp_path, [f"12345-678 - Ada - {date}/a.ipynb" for date in dates])
    assert students(found) == ["Ada"]
    assert [any("not certain" in flag for flag in one.flags) for one in found] == [uncertain] * len(dates)


# ---- several students

SEVERAL = {
    "Canvas": ["ada_1001_777_a.ipynb", "ada_LATE_1002_778_a.ipynb"],
    "Moodle": ["Ada_1001_assignsubmission_file_/a.ipynb", "Ada_1002_assignsubmission_file_/a.ipynb"],
    "Moodle, flat": ["Ada_1001_assignsubmission_file_a.ipynb", "Ada_1002_assignsubmission_file_a.ipynb"],
    "Blackboard": [f"HW_{n}_l_attempt_2026-11-01-10-20-30_a.ipynb" for n in "ab"],
    "Brightspace": ["1001-1 - Ada - Nov 1, 2026/a.ipynb", "1002-1 - Ada - Nov 1, 2026/a.ipynb"],
    "ILIAS": ["Lovelace_Ada_alove_1001/a.ipynb", "Lovelace_Ada_alova_1002/a.ipynb"],
    "Google Classroom": [
        "Copy of 04_vae.ipynb",
        "Copy of Copy of 04_vae.ipynb",
        "Copy of 04_vae (1).ipynb",
        "04_vae.ipynb",
    ],
    "folders": ["Ada/04_vae.ipynb", "Bob/04_vae.ipynb"],
    "folders in a folder": ["export/Ada/04_vae.ipynb", "export/Bob/04_vae.ipynb"],
    "folders in folders": ["a/b/c/Ada/04_vae.ipynb", "a/b/c/Bob/04_vae.ipynb"],
    "files in a folder": ["export/Ada.ipynb", "export/Bob.ipynb"],
    "files of one platform in a folder": ["Copies/Copy of 04_vae.ipynb", "Copies/Copy of 04_vae (1).ipynb"],
    "Moodle in a folder": ["x/Ada_1_assignsubmission_file_/a.ipynb", "x/Bob_2_assignsubmission_file_/a.ipynb"],
    "Moodle in a folder among others": [
        "x/Ada_1_assignsubmission_file_/a.ipynb",
        "x/Bob_2_assignsubmission_file_/a.ipynb",
        "Eve.ipynb",
    ],
    "ILIAS in folders": [
        "Exercise/Unit 1/Lovelace_Ada_ada_1001/a.ipynb",
        "Exercise/Unit 1/Hopper_Grace_gh_1002/a.ipynb",
    ],
    "capital letters": ["Ada/a.ipynb", "ADA/a.ipynb"],
    "names like a platform's in folders": ["Ada/hw_3_100_a.ipynb", "Bob/hw_3_100_a.ipynb"],
    "letters of many bytes": ["𠀀" * 60 + "a.ipynb", "𠀀" * 60 + "b.ipynb"],
    "very long names": ["A" * 200 + "a.ipynb", "A" * 200 + "b.ipynb"],
    "endings that are none": ["ada.lovelace/a.ipynb", "ada.turing/a.ipynb"],
    "homework of one name and year": ["HW_3_2026_ada.ipynb", "HW_3_2026_bob.ipynb"],
    "homework of one name": ["hw_101_ada.ipynb", "hw_101_bob.ipynb"],
}


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("packed", ["", "class.zip", "class.zip/class", "argument"])
def test_different_people_stay_different(tmp_path, kind, packed):
    files = dict.fromkeys(SEVERAL[kind], NOTEBOOK)
    if packed:
        inner = {packed.partition("/")[2] + "/" + name: content for name, content in files.items()}
        files = {"class.zip": zipped(inner)}
    (tmp_path / ".a").touch()
    if kind == "capital letters" and not packed and (tmp_path / ".A").exists():
        pytest.skip("such folders can't be made here")
    found = hand_in(tmp_path, files)
    if packed == "argument":
        found = list(collect(tmp_path / "class.zip"))
    assert len({one.student.casefold() for one in found}) == len(found) == len(SEVERAL[kind])
    assert all(len(f"{one.student}.html.partial".encode()) <= 255 for one in found)
    assert {one.content() for one in found} == {NOTEBOOK}
    assert not any(one.problem or one.flags for one in found)


def test_a_name_stays_when_others_come(tmp_path):
    before = hand_in(tmp_path, ["ada_1001_777_a.ipynb", "ada_1002_778_a.ipynb", "grace_3_779_a.ipynb"])
    after = hand_in(tmp_path, ["ada_1000_780_a.ipynb", "ADA.ipynb"])
    assert set(students(before)) == {"ada (1001)", "ada (1002)", "grace"}
    assert set(students(before)) < set(students(after))


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("12345-678901 - Ada Lovelace - Nov 1, 2026 1020 AM/a.ipynb", "Ada Lovelace"),  # Brightspace
        ("Lovelace_Ada_alovelac_274534/a.ipynb", "Lovelace_Ada"),  # ILIAS
        ("Copy of Ada Lovelace.ipynb", "Ada Lovelace"),  # Google Classroom
        ("Ada Lovelace.zip", "Ada Lovelace"),
        ("Ada Lovelace/notebook.ipynb", "Ada Lovelace"),
        ("Ada/01_autoencoder.ipynb", "Ada"),
        ("Ada/work/a.ipynb", "Ada"),
        ("J. R. Doe/a.ipynb", "J. R. Doe"),
        ("ada_2_01_autoencoder.ipynb", "ada_2_01_autoencoder"),
        ("HW_1_attempt_two.ipynb", "HW_1_attempt_two"),
        ("homework 2 - final.ipynb", "homework 2 - final"),
        ("A" * 200 + ".ipynb", "A" * LONGEST),
    ],
)
def test_names_are_those_that_people_know(tmp_path, name, student):
    content = zipped({"a.ipynb": NOTEBOOK}) if name.endswith(".zip") else NOTEBOOK
    (one,) = hand_in(tmp_path, {name: content})
    assert (one.student, one.problem, one.content()) == (student, "", NOTEBOOK)


@pytest.mark.skipif(os.name == "nt", reason="such names can't be made there")
@pytest.mark.parametrize("name", [b"Jos\xe9.ipynb", b"A:d\na?.ipynb", b"Ada\\Lovelace.ipynb"])
def test_every_name_can_name_a_page_and_stand_in_a_table(tmp_path, name):
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(NOTEBOOK)
    (one,) = collect(tmp_path)
    assert not set(one.student) & set('\n:?\\/<>|"*')
    assert one.student.encode().decode() == one.student
    assert one.name.encode().decode() == one.name
    assert one.content() == NOTEBOOK


def test_a_hand_out_given_back_whole_is_one_student_s(tmp_path):
    files = ["04_vae.ipynb", "README.txt", "checks/vae.py", "utils/data.py"]
    for sole, name in enumerate(["Ada.zip", "Bob.zip"]):
        content = zipped({f"04_vae/{file}": NOTEBOOK if file.endswith("ipynb") else b"#" for file in files})
        found = hand_in(tmp_path, {name: content})
        assert students(found) == ["Ada", "Bob"][: sole + 1]
        assert {one.flags for one in found} == {()}


def test_a_class_s_zip_unpacked_beside_itself_makes_nobody_twice(tmp_path):
    files = {"class/Ada/a.ipynb": NOTEBOOK, "class/Bob.ipynb": NOTEBOOK}
    found = hand_in(tmp_path, files | {"class.zip": zipped({k.removeprefix("class/"): v for k, v in files.items()})})
    assert [one.student for one in found] == ["Ada", "Ada", "Bob", "Bob"]


def test_a_zip_of_zips_is_a_class(tmp_path):
    inner = {f"class/{name}.zip": zipped({"04_vae.ipynb": NOTEBOOK}) for name in ("Ada", "Bob")}
    found = hand_in(tmp_path, {"class.zip": zipped(inner | {"class/.DS_Store": b"x"})})
    assert students(found) == ["Ada", "Bob"]
    assert [one.name for one in found] == [f"class.zip/class/{name}.zip/04_vae.ipynb" for name in ("Ada", "Bob")]
    assert {one.content() for one in found} == {NOTEBOOK}


def test_one_damaged_zip_in_a_class_harms_nobody_else(tmp_path):
    bad = {"Torn": b"PK no", "Bomb": zipped({"a.ipynb": bytes(60_000_000)}), "Locked": encrypted()}
    good = {"Ada": zipped({"a.ipynb": NOTEBOOK})}
    found = hand_in(tmp_path, {"class.zip": zipped({f"{name}.zip": data for name, data in (bad | good).items()})})
    assert students(found) == ["Ada", "Bomb", "Locked", "Torn"]
    assert {one.student for one in found if not one.problem} == {"Ada"}


# ---- what comes beside a notebook, or in its place

TEXTS = {
    "Ada Lovelace_123_assignsubmission_onlinetext_/onlinetext.html": "Ada Lovelace_123_assignsubmission_file_/a.ipynb",
    "Ada Lovelace_123_assignsubmission_onlinetext_onlinetext.html": "Ada Lovelace_123_assignsubmission_file_a.ipynb",
    "Ada Lovelace_123_assignsubmission_onlinetext/onlinetext.html": "Ada Lovelace_123_assignsubmission_file/a.ipynb",
    "ada_4711_text.html": "ada_4711_678_a.ipynb",
    "ada_LATE_4711_link.html": "ada_LATE_4711_678_a.ipynb",
}


@pytest.mark.parametrize("text", TEXTS)
def test_an_online_text_is_named_for_the_person_who_reads(tmp_path, text):
    (alone,) = hand_in(tmp_path, [text], b"<p>Dear all</p>")
    assert alone.problem == f"{NO_NOTEBOOK}{text}: an online text, to be read"
    (one,) = hand_in(tmp_path, [TEXTS[text]])
    assert (one.student, one.problem) == (alone.student, "")
    assert one.flags == (f"{text}: an online text, to be read",)


def test_blackboard_s_receipt_is_no_second_student_and_no_news(tmp_path):
    found = hand_in(tmp_path, [BLACKBOARD.format(1, ".txt")], b"Name: Ada")
    assert [one.problem for one in found] == [NO_NOTEBOOK + BLACKBOARD.format(1, ".txt")]
    contents = {".txt": b"Name: Ada", "_a.ipynb": NOTEBOOK}
    found = hand_in(tmp_path, {BLACKBOARD.format(n, end): content for n in (1, 2) for end, content in contents.items()})
    assert [(one.student, one.flags) for one in found] == [("ada.l", ())] * 2
    assert latest(found) == BLACKBOARD.format(2, "_a.ipynb")


@pytest.mark.parametrize(
    "ending", [".py", ".html", ".pdf", ".docx", ".rar", ".tar.gz", ".txt", ".json", ".ipynb.txt", ""]
)
@pytest.mark.parametrize("content", [b'{"a": 1}', b"Dear all", b"\xff\x00\x81", b"", DEEP, b'{"nbformat": 4, "cells'])
def test_another_file_is_refused_with_what_was_expected_and_named_beside_a_notebook(tmp_path, ending, content):
    one, _ = hand_in(tmp_path, {f"Ada/vae{ending}": content, "Bob.ipynb": NOTEBOOK})
    assert (one.student, one.problem) == ("Ada", f"{NO_NOTEBOOK}vae{ending}")
    one, _ = hand_in(tmp_path, ["Ada/a.ipynb"])
    assert one.flags == ((f"also handed in, not graded: vae{ending}",) if ending else ())


def test_what_else_lies_in_moodle_s_folder_is_named(tmp_path):
    folder = "Ada_12_assignsubmission_file_/"
    (one,) = hand_in(tmp_path, {folder + "a.ipynb": NOTEBOOK, folder + "vae.py": b"", folder + "plot.png": b""})
    assert one.flags == ("also handed in, not graded: vae.py",)


@pytest.mark.parametrize("ending", [".ipynb.txt", ".ipynb.json", ".json", ".txt", ".IPYNB.txt", ".ipynb.download"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_notebook_is_known_under_another_ending(tmp_path, ending, encoding):
    (one,) = hand_in(tmp_path, {f"Ada/vae{ending}": NOTEBOOK.decode().encode(encoding)})
    assert (one.student, one.problem) == ("Ada", "")
    assert one.flags == (f"vae{ending} was read as a notebook",)
    assert read(one.content())[0].cells[0].source == SOURCE


@pytest.mark.parametrize("packed", [False, True])
def test_what_computers_add_is_left_out(tmp_path, packed):
    work = ["Ada/a.ipynb", "Ada/.b.ipynb", "Ada/c-checkpoint.ipynb"]
    junk = [
        ".git/config",
        ".ipynb_checkpoints/a-checkpoint.ipynb",
        "__MACOSX/._a.ipynb",
        "._a.ipynb",
        ".DS_Store",
        "Thumbs.db",
    ]
    files = dict.fromkeys(work + [f"Ada/{name}" for name in junk] + [".DS_Store", "__MACOSX/._Ada"], NOTEBOOK)
    found = hand_in(tmp_path, ({"Ada.zip": zipped(files)} if packed else files) | {"Bob.ipynb": NOTEBOOK})
    assert students(found) == ["Ada", "Bob"]
    found = found[:-1]
    assert sorted(one.name.removeprefix("Ada.zip/") for one in found) == sorted(work)


@pytest.mark.parametrize("name", ["Ada/.DS_Store", "Ada/empty/.DS_Store", "Ada.zip"])
def test_who_handed_in_nothing_is_not_forgotten(tmp_path, name):
    found = hand_in(tmp_path, {name: zipped({}), "Bob.ipynb": NOTEBOOK})
    assert [(one.student, one.problem) for one in found] == [("Ada", NO_NOTEBOOK + "nothing"), ("Bob", "")]


def test_an_empty_folder_in_a_class_s_zip_is_a_student(tmp_path):
    found = hand_in(
        tmp_path, {"class.zip": zipped({"c/": b"", "c/Ada/": b"", "c/Bob/a.ipynb": NOTEBOOK, "c/Eve/a.ipynb": OTHER})}
    )
    assert [(one.student, one.problem) for one in found] == [("Ada", NO_NOTEBOOK + "nothing"), ("Bob", ""), ("Eve", "")]


def test_an_empty_folder_beside_a_notebook_is_no_news(tmp_path):
    (tmp_path / "Ada" / "empty").mkdir(parents=True)
    (one,) = hand_in(tmp_path, ["Ada/a.ipynb"])
    assert (one.problem, one.flags) == ("", ())


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_links_are_not_followed_and_not_forgotten(tmp_path):
    (tmp_path / "secret.ipynb").write_bytes(NOTEBOOK)
    (tmp_path / "in" / "Ada").mkdir(parents=True)
    (tmp_path / "in" / "Ada" / "a.ipynb").symlink_to(tmp_path / "secret.ipynb")
    (tmp_path / "in" / "Eve.ipynb").symlink_to(tmp_path / "secret.ipynb")
    (tmp_path / "in" / "Round").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "Pipe.ipynb")
    found = {one.student: one for one in collect(tmp_path / "in")}
    assert {name: one.problem for name, one in found.items()} == {
        "Ada": "a.ipynb: a link, which is not followed",
        "Eve": "Eve.ipynb: a link, which is not followed",
        "Round": "Round: a link, which is not followed",
        "Pipe": "Pipe.ipynb: neither a file nor a folder",
    }
    assert {one.content() for one in found.values()} == {b""}


# ---- zips


@pytest.mark.parametrize("zips", range(1, 7))
def test_zips_within_zips_are_opened_to_a_depth(tmp_path, zips):
    content = zipped({"a.ipynb": NOTEBOOK})
    for _ in range(zips - 1):
        content = zipped({"b.zip": content})
    (one,) = hand_in(tmp_path, {"Ada.zip": content})
    assert one.student == "Ada"
    assert one.problem == ("" if zips <= 4 else "b.zip: zip files are nested more than 4 deep")
    assert one.content() == (NOTEBOOK if zips <= 4 else b"")


HUGE = bytes(60_000_000)
BOMBS = {
    "not really": (b"PK not really", "the zip file can't be read: File is not a zip file"),
    "empty": (b"", "the zip file can't be read: File is not a zip file"),
    "locked": (encrypted(), "^a.ipynb: locked with a password$"),
    "locked, in a zip": (zipped({"b.zip": encrypted()}), "^a.ipynb: locked with a password$"),
    "torn": (torn(), "a.ipynb: can't be read: "),
    "one huge file": (zipped({"a.ipynb": HUGE}), "a.ipynb: the file has 60 MB"),
    "many large files": (zipped({f"{n}.ipynb": HUGE[:9_000_000] for n in range(7)}), "unpacks to 63 MB, too much"),
    "many bombs": (
        zipped({f"{n}.zip": zipped({"a.ipynb": HUGE[:45_000_000]}) for n in range(3)}),
        "unpacks to 45 MB, too much",
    ),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_and_damage_are_named(tmp_path, kind):
    content, why = BOMBS[kind]
    found = hand_in(tmp_path, {"Ada.zip": content, "Bob.zip": zipped({"a.ipynb": NOTEBOOK})})
    assert students(found) == ["Ada", "Bob"]
    problems = [one.problem for one in found if one.student == "Ada" and one.problem]
    assert problems
    assert all(re.search(why, problem) for problem in problems), problems
    assert [one.problem for one in found if one.student == "Bob"] == [""]


def test_a_notebook_beside_a_damaged_zip_is_kept(tmp_path):
    found = hand_in(tmp_path, {"Ada/a.ipynb": NOTEBOOK, "Ada/b.zip": b"PK"})
    assert sorted(one.problem for one in found) == ["", "b.zip: the zip file can't be read: File is not a zip file"]


@pytest.mark.parametrize("name", ["../../a.ipynb", "/etc/a.ipynb", "..\\..\\a.ipynb", "C:\\a.ipynb", "./x/../a.ipynb"])
def test_paths_in_a_zip_lead_nowhere_else(tmp_path, name):
    found = hand_in(tmp_path / "in", {"Ada.zip": zipped({name: NOTEBOOK}), "Bob.ipynb": OTHER})
    assert [(one.student, one.content()) for one in found] == [("Ada", NOTEBOOK), ("Bob", OTHER)]
    assert ".." not in found[0].name
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_names_in_a_zip_from_macos_are_read(tmp_path):
    data = zipped({"Jos__/a.ipynb": NOTEBOOK, "Zo__/a.ipynb": NOTEBOOK})
    data = data.replace(b"Jos__", "José".encode()).replace(b"Zo__", "Zoë".encode())
    assert students(hand_in(tmp_path, {"class.zip": data})) == ["José", "Zoë"]


@pytest.mark.parametrize("depth", [100, 5000])
def test_very_deep_folders_are_no_end_of_the_run(tmp_path, depth):
    deep = "x/" * depth + "a.ipynb"
    found = hand_in(tmp_path, {"Ada.zip": zipped({deep: NOTEBOOK}), "Bob.ipynb": NOTEBOOK})
    assert [(one.student, one.content()) for one in found] == [("Ada", NOTEBOOK), ("Bob", NOTEBOOK)]
    if depth == 100:
        found = hand_in(tmp_path, {"Eve/" + deep: NOTEBOOK})
        assert [one.problem for one in found] == ["", "", "x: folders are nested more than 30 deep"]


def test_two_files_of_one_name_in_a_zip_are_both_read(tmp_path):
    data = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.ipynb", NOTEBOOK)
        archive.writestr("a.ipynb", OTHER)
    found = hand_in(tmp_path, {"Ada.zip": data.getvalue()})
    assert {one.content() for one in found} == {NOTEBOOK, OTHER}


def test_of_very_many_files_some_are_looked_at_and_the_others_named(tmp_path):
    many = {f"{n:03}.ipynb": NOTEBOOK for n in range(MOST_FILES + 2)}
    found = hand_in(tmp_path, {"Ada.zip": zipped(many), "Bob.ipynb": NOTEBOOK})
    assert len(found) == MOST_FILES + 1
    assert found[0].flags == ("also handed in, not graded: 100.ipynb, 101.ipynb",)


# ---- what is in a file

CELL = {"cell_type": "code", "input": [SOURCE], "language": "python", "outputs": [], "metadata": {}}
OLD = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"metadata": {}, "cells": [CELL]}]}


@pytest.mark.parametrize(
    ("content", "mended"),
    [
        (NOTEBOOK, []),
        (b"\xef\xbb\xbf" + NOTEBOOK, []),
        (NOTEBOOK.decode().encode("utf-16"), ["the file was in UTF-16"]),
        (b"\xfe\xff" + NOTEBOOK.decode().encode("utf-16-be"), ["the file was in UTF-16"]),
        (NOTEBOOK.decode().encode("utf-16-le"), ["the file was in UTF-16"]),
        (NOTEBOOK.decode().encode("utf-16-be"), ["the file was in UTF-16"]),
        (NOTEBOOK.replace(b"\n", b"\r\n"), []),
        (json.dumps(OLD).encode(), ["the notebook had the old format 3"]),
    ],
)
def test_files_are_read_as_editors_write_them(content, mended):
    notebook, flags = read(content)
    assert [cell.source for cell in notebook.cells] == [SOURCE]
    assert flags == mended


def test_line_ends_and_half_characters_in_a_cell_are_mended():
    content = nbformat.writes(new_notebook(cells=[new_code_cell("x = 1\r\ny = 2 # ?")])).replace("?", "\\ud83d")
    assert read(content.encode())[0].cells[0].source == "x = 1\ny = 2 # \ufffd"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"\xff\xfe", "the file is empty"),
        (b'{"cells": [', "not a notebook, which is a file .ipynb"),
        (NOTEBOOK[:100], "not a notebook, which is a file .ipynb"),
        (NOTEBOOK.decode().encode("utf-16")[:101], "not a notebook, which is a file .ipynb"),
        (b"\xff\xfe\x00", "the file is empty"),
        (b"<html>", "not a notebook, which is a file .ipynb"),
        (b"%PDF-1.7 \x80", "not a notebook, which is a file .ipynb"),
        (HUGE + b"x", "the file has 60 MB"),
        (DEEP, "not a notebook: its brackets are nested too deeply"),
        (b'{"nbformat": ' * 100_000, "not a notebook: its brackets are nested too deeply"),
        (b'{"nbformat": 4, "cells": ' + b"[" * 900 + b"]" * 900 + b"}", "not a notebook"),
        (b"[]", "not a notebook, though it is JSON"),
        (b'{"a": 1}', "not a notebook, though it is JSON"),
        (b'{"nbformat": 4}', "not a notebook"),
        (b'{"nbformat": 99, "cells": []}', "not a notebook"),
        (b'{"nbformat": "x", "cells": []}', "not a notebook"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "poem", "source": ""}]}', "not a notebook"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 7}]}', "not a notebook"),
    ],
)
def test_what_is_no_notebook_is_reported(content, why):
    with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
        read(content)


@pytest.mark.parametrize("content", [b"", DEEP, NOTEBOOK[:100], HUGE[:1000]])
def test_a_broken_notebook_waits_for_its_refusal(tmp_path, content):
    """The grader's process for it says what is wrong."""
    (one,) = hand_in(tmp_path, {"Ada.ipynb": content})
    assert (one.student, one.problem, one.content()) == ("Ada", "", content)
