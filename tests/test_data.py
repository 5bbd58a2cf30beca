"""utils.data: the embedded digits, the full MNIST from a folder or a mirror, and binarisation."""

import gzip
import hashlib
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from torch.testing import assert_close
from tqdm import tqdm

from utils import data
from utils.data import MNIST_FILES, binarize, load_digits

DIGITS_SHA256 = "bc6b63550c8a82f6ecccd9458252069fb030ee802997b8242e71d5146b0cbf0e"
SPLIT_SHA256 = {
    "train": "a25a1bc168712e6eecb9ec8f0d14ac7d0b16fce378d33b45d4b925d205f67832",
    "heldout": "6103dddd072ba707de10458cfcd91f1547b8f0bb2e68beae4f1d8d519677f78f",
}
MNIST_FOLDER = Path(os.environ.get("VAE_MNIST") or "no folder")
needs_mnist = pytest.mark.skipif(
    not (MNIST_FOLDER / "MNIST" / "raw").is_dir(), reason=f"the full MNIST isn't in {MNIST_FOLDER}"
)


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    """A session of its own: nothing decided yet, no environment variable, an empty place for downloads."""
    folder = tmp_path / "data"
    monkeypatch.setattr(data, "DOWNLOADS", folder)
    monkeypatch.delenv("VAE_DIGITS", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    data._full_mnist.cache_clear()
    yield folder
    data._full_mnist.cache_clear()


def as_bytes(x):
    """The grey values 0..255 behind pixels in [0, 1], exactly."""
    grey = (x * 255).round()
    assert_close(grey / 255, x, rtol=0, atol=0)
    return grey.to(torch.uint8).numpy().tobytes()


# ---- the embedded digits


def test_embedded_digits_are_the_bytes_they_were():
    with np.load(data.EMBEDDED) as file:
        images, labels = file["images"], file["labels"]
    assert images.shape == (10_000, 28, 28)
    assert labels.shape == (10_000,)
    assert images.dtype == labels.dtype == np.uint8
    assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == DIGITS_SHA256


@needs_mnist
def test_embedded_digits_are_the_first_10000_of_the_training_set():
    with np.load(data.EMBEDDED) as file:
        images, labels = file["images"], file["labels"]
    mnist = torchvision.datasets.MNIST(MNIST_FOLDER, train=True)
    first = mnist.targets[:10_000].numpy()
    order = np.argsort(first, kind="stable")  # sorted by digit, otherwise in MNIST's order
    np.testing.assert_array_equal(images, mnist.data[:10_000].numpy()[order])
    np.testing.assert_array_equal(labels, first[order])


@pytest.mark.parametrize(("split", "n"), [("train", 8000), ("heldout", 2000)])
def test_embedded_split_has_the_documented_form(split, n):
    x, labels = load_digits(split)
    assert x.shape == (n, 784)
    assert labels.shape == (n,)
    assert x.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert x.is_contiguous()
    assert x.min() == 0
    assert x.max() == 1
    assert labels.unique().tolist() == list(range(10))
    assert 0.1 < x.mean() < 0.16  # ink is bright: MNIST's mean is 0.13


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_embedded_split_is_always_the_same(split):
    x, labels = load_digits(split)
    digest = hashlib.sha256(as_bytes(x) + labels.to(torch.uint8).numpy().tobytes()).hexdigest()
    assert digest == SPLIT_SHA256[split]


def test_splits_are_disjoint_and_together_everything():
    parts = []
    for split in ("train", "heldout"):
        x, labels = load_digits(split)
        parts.append(
            {image.tobytes() + bytes([label]) for image, label in zip(x.numpy(), labels.tolist(), strict=True)}
        )
    train, heldout = parts
    assert len(train) == 8000  # no image twice
    assert len(heldout) == 2000
    assert not train & heldout


def test_split_is_stratified_within_one_image_per_digit():
    train, heldout = (load_digits(split)[1].bincount(minlength=10) for split in ("train", "heldout"))
    assert ((heldout - (train + heldout) / 5).abs() < 1).all()


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_first_images_of_a_split_are_a_fair_sample_however_many(split):
    _, labels = load_digits(split)
    assert labels[:10].tolist() == list(range(10))
    counts = torch.nn.functional.one_hot(labels).cumsum(0)
    n = torch.arange(1, len(labels) + 1)[:, None]
    assert ((counts - n * counts[-1] / len(labels)).abs() < 1.5).all()


def test_digits_come_on_the_target_device():
    x, labels = load_digits("heldout", "embedded", device="meta")
    assert x.device.type == labels.device.type == "meta"
    assert x.shape == (2000, 784)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that CUDA can use")
def test_digits_come_on_the_gpu():
    x, labels = load_digits("heldout", "embedded", device="cuda")
    assert x.is_cuda
    assert labels.is_cuda
    assert_close(x.cpu(), load_digits("heldout", "embedded")[0], rtol=0, atol=0)


def test_loaded_tensors_are_the_callers_own():
    x, labels = load_digits("heldout")
    x.zero_()
    labels.zero_()
    x, labels = load_digits("heldout")
    assert x.max() == 1
    assert labels.max() == 9


@pytest.mark.parametrize("split", ["test", "Train", "", None])
def test_unknown_split_is_named(split):
    with pytest.raises(ValueError, match=r'give "train" or "heldout"'):
        load_digits(split)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off"])
def test_broken_embedded_file_says_how_to_restore_it(content, tmp_path, monkeypatch):
    broken = tmp_path / "digits.npz"
    broken.write_bytes(content)
    monkeypatch.setattr(data, "EMBEDDED", broken)
    with pytest.raises(ValueError, match="git checkout"):
        load_digits("train")


# ---- which source is meant


class Asked(Exception):
    """Raised instead of looking for a source."""


@pytest.mark.parametrize(
    ("source", "variable", "gpu", "meant"),
    [
        (None, None, False, "embedded"),
        (None, None, True, "full"),
        (None, "full", False, "full"),
        (None, "embedded", True, "embedded"),
        (None, "", False, "embedded"),
        ("embedded", "full", True, "embedded"),
        (Path("somewhere"), "full", False, "somewhere"),
    ],
)
def test_argument_beats_variable_beats_gpu(source, variable, gpu, meant, monkeypatch):
    def ask(asked):
        raise Asked(asked)

    monkeypatch.setattr(data, "_full_mnist", ask)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.delenv("VAE_DIGITS", raising=False)
    if variable is not None:
        monkeypatch.setenv("VAE_DIGITS", variable)
    with pytest.raises(Asked) as asked:
        load_digits("train", source)
    monkeypatch.undo()
    assert asked.value.args == (meant,)


# ---- the full MNIST from a folder


@needs_mnist
def test_full_mnist_from_a_folder_by_argument_and_by_variable(monkeypatch, capsys):
    x, labels = load_digits("heldout", MNIST_FOLDER)
    mnist = torchvision.datasets.MNIST(MNIST_FOLDER, train=False)
    assert as_bytes(x) == mnist.data.numpy().tobytes()
    assert_close(labels, mnist.targets)
    assert x.shape == (10_000, 784)
    monkeypatch.setenv("VAE_DIGITS", str(MNIST_FOLDER))
    x, labels = load_digits("train")
    assert x.shape == (60_000, 784)
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert capsys.readouterr().out == ""


def idx(array):
    """A uint8 array in the format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def write_mnist(folder, **changed):
    """Four files in torchvision's layout with 20 digits each, some `changed`: a name's first letters to its content."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        shape = (20, 28, 28) if "images" in name else (20,)
        content = changed.get("_".join(name.split("-")[:2]), idx(np.zeros(shape, np.uint8)))
        if content is not None:
            (raw / name).write_bytes(content)
    return folder


def test_too_few_images_are_not_taken_for_mnist(tmp_path):
    folder = write_mnist(tmp_path / "small")
    for split, n in {"train": "60000", "heldout": "10000"}.items():
        with pytest.raises(ValueError, match=rf"\(20, 28, 28\) images and 20 labels where MNIST has \({n}"):
            load_digits(split, folder)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((10_000, 28, 28), (9_999,), "9999 labels"),
        ((9_999, 28, 28), (10_000,), r"\(9999, 28, 28\) images"),
        ((10_000, 8, 8), (10_000,), r"\(10000, 8, 8\) images"),
    ],
)
def test_one_wrong_size_is_enough(images, labels, message, tmp_path):
    images, labels = (idx(np.zeros(shape, np.uint8)) for shape in (images, labels))
    folder = write_mnist(tmp_path / "wrong", t10k_images=images, t10k_labels=labels)
    with pytest.raises(ValueError, match=message):
        load_digits("heldout", folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html><body>Please log in</body></html>",
        idx(np.zeros((10_000, 28, 28), np.uint8))[:5000],
        idx(np.zeros(20, np.uint8)),  # labels where images should be
        gzip.compress(idx(np.zeros((20, 28, 28), np.uint8))),
        bytes([0, 0, 13, 3]) + bytes(2000),  # float32
    ],
    ids=["empty", "html", "truncated", "labels", "still gzipped", "float"],
)
def test_corrupt_file_is_a_clear_error(content, tmp_path):
    folder = write_mnist(tmp_path / "corrupt", t10k_images=content)
    with pytest.raises(ValueError, match="can't be read") as caught:
        load_digits("heldout", folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "embedded" in message
    assert "read ()" not in message  # the cause is named
    assert "\n" not in message


def test_wrong_folder_says_what_was_expected(tmp_path, capsys):
    with pytest.raises(FileNotFoundError) as caught:
        load_digits("train", tmp_path)
    message = str(caught.value)
    for word in [str(tmp_path / "MNIST" / "raw"), *MNIST_FILES, '"full"', '"embedded"']:
        assert word in message
    assert capsys.readouterr().out == ""


def test_a_misspelt_source_is_named(monkeypatch):
    monkeypatch.setenv("VAE_DIGITS", "embeded")
    with pytest.raises(FileNotFoundError, match=r"'embeded'.*\"embedded\""):
        load_digits("train")


def test_folder_with_a_missing_file_names_it_and_is_looked_at_again(tmp_path):
    folder = write_mnist(tmp_path / "partly", t10k_labels=None)
    with pytest.raises(FileNotFoundError, match=r"not found: t10k-labels-idx1-ubyte\."):
        load_digits("train", folder)
    (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"")
    assert data._full_mnist(str(folder)) == folder


# ---- the full MNIST by download


@contextmanager
def mirror(answer):
    """A web server on this machine; `answer(handler)` answers each request. Yields its address and the paths asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer(self)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.socket.close()


def reply(handler, content, status=200, length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content) if length is None else length))
    handler.end_headers()
    handler.wfile.write(content)


@pytest.fixture
def use_mirrors(monkeypatch):
    """Call it with the addresses that torchvision shall download from, with its progress bars on."""
    monkeypatch.setattr(torchvision.datasets.utils, "tqdm", partial(tqdm, disable=False))
    return lambda *addresses: monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", list(addresses))


@pytest.fixture
def patience():
    """The default timeout of sockets that a program may have set, to be found again afterwards."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(123)
    yield 123
    socket.setdefaulttimeout(before)


@pytest.fixture
def goes_on(downloads, capfd, patience):
    """Call it where a download fails: the embedded digits, one line, and nothing left behind. Returns the line."""

    def check():
        (x, _), (x_heldout, _) = load_digits("train", "full"), load_digits("heldout", "full")
        printed = capfd.readouterr()
        assert len(x) == 8000
        assert len(x_heldout) == 2000
        assert printed.out.count("\n") == 1
        assert printed.out.startswith("The full MNIST could not be downloaded (")
        assert printed.out.endswith("): using the 10,000 embedded digits instead.\n")
        assert printed.err == ""
        assert len(printed.out) < 350
        assert not any(downloads.rglob("*"))
        assert socket.getdefaulttimeout() == patience
        return printed.out

    return check


def test_mirror_down(goes_on, use_mirrors):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    use_mirrors(f"https://127.0.0.1:{port}/", f"http://127.0.0.1:{port}/")
    assert "refused" in goes_on()


def test_reason_survives_the_length_of_the_real_addresses(goes_on, monkeypatch):
    def no_network(*arguments, **keywords):
        raise torchvision.datasets.mnist.URLError("[Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", no_network)
    assert "name resolution" in goes_on()


def test_mirror_hangs(goes_on, use_mirrors, monkeypatch):
    monkeypatch.setattr(data, "TIMEOUT", 0.2)
    over = threading.Event()
    with mirror(lambda handler: over.wait(20)) as (address, asked):
        use_mirrors(address, address)
        line = goes_on()
        over.set()
    assert asked
    assert "timed out" in line


def test_mirror_hangs_in_the_middle_of_a_file(goes_on, use_mirrors, monkeypatch):
    monkeypatch.setattr(data, "TIMEOUT", 0.2)
    over = threading.Event()

    def stall(handler):
        reply(handler, b"x" * 1000, length=2000)
        over.wait(20)

    with mirror(stall) as (address, _):
        use_mirrors(address)
        line = goes_on()
        over.set()
    assert "timed out" in line


def test_html_instead_of_data(goes_on, use_mirrors):
    with mirror(lambda handler: reply(handler, b"<html>Please log in</html>")) as (address, asked):
        use_mirrors(address, address + "other/")
        line = goes_on()
    assert "corrupted" in line
    if Version(torchvision.__version__) >= Version("0.29"):  # 0.26, Colab's, gives up after the first mirror
        assert any(path.startswith("/other/") for path in asked)


def test_truncated_file(goes_on, use_mirrors):
    with mirror(lambda handler: reply(handler, b"\x1f\x8b" * 500, length=9_912_422)) as (address, _):
        use_mirrors(address)
        goes_on()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_mirror_refuses(status, goes_on, use_mirrors):
    with mirror(lambda handler: reply(handler, b"no", status)) as (address, _):
        use_mirrors(address)
        assert str(status) in goes_on()


def test_checksum_agrees_but_it_is_no_archive(goes_on, use_mirrors, monkeypatch):
    md5 = hashlib.md5(b"not gzip").hexdigest()
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", [(f"{name}.gz", md5) for name in MNIST_FILES])
    with mirror(lambda handler: reply(handler, b"not gzip")) as (address, _):
        use_mirrors(address)
        goes_on()


def test_disk_full(goes_on, use_mirrors, monkeypatch):
    def write_a_little(url, filename, chunk_size=0):
        Path(filename).write_bytes(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torchvision.datasets.utils, "_urlretrieve", write_a_little)
    with mirror(lambda handler: reply(handler, b"")) as (address, _):
        use_mirrors(address)
        assert "No space left" in goes_on()


def test_nothing_can_be_written(downloads, monkeypatch, capsys):
    downloads.write_text("a file where the folder should be")
    assert len(load_digits("train", "full")[0]) == 8000
    assert capsys.readouterr().out.count("\n") == 1
    assert downloads.is_file()


def test_interrupted_download_leaves_nothing_and_may_be_tried_again(downloads, patience, monkeypatch):
    def interrupted(root, download):
        (Path(root) / "some of it").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(torchvision.datasets, "MNIST", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            load_digits("train", "full")
        assert not any(downloads.rglob("*"))
        assert socket.getdefaulttimeout() == patience


@pytest.fixture(scope="module")
def archives():
    """What a healthy mirror serves: MNIST's file names and sizes, images of one pixel each that counts up."""
    files = {}
    for name in MNIST_FILES:
        n = 60_000 if name.startswith("train") else 10_000
        if "images" in name:
            array = np.zeros((n, 784), np.uint8)
            array[:, 0] = np.arange(n) % 256
            array = array.reshape(n, 28, 28)
        else:
            array = (np.arange(n) % 10).astype(np.uint8)
        files[f"/{name}.gz"] = gzip.compress(idx(array), 1)
    return files


@pytest.fixture
def healthy(archives, monkeypatch, use_mirrors):
    """A mirror that serves `archives`; a context manager, which yields the paths asked for."""
    checksums = [(f"{name}.gz", hashlib.md5(archives[f"/{name}.gz"]).hexdigest()) for name in MNIST_FILES]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", checksums)

    @contextmanager
    def serve(before=lambda handler: None):
        def answer(handler):
            before(handler)
            reply(handler, archives[handler.path])

        with mirror(answer) as (address, asked):
            use_mirrors(address)
            yield asked

    return serve


@pytest.fixture
def big_downloads(monkeypatch):
    """Like `downloads`, removed at once: pytest would keep these 55 MB of three runs."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(data, "DOWNLOADS", Path(folder) / "data")
        yield Path(folder) / "data"


def found(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_download_arrives_whole_once_and_for_both_splits(big_downloads, healthy, capfd, patience):
    with healthy() as asked:
        x, labels = load_digits("train", "full")
        assert len(set(asked)) == 4
    assert x.shape == (60_000, 784)
    assert as_bytes(x[:300, :1]) == bytes(i % 256 for i in range(300))
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    # the mirror is gone, in this session and in the next
    assert len(load_digits("heldout", "full")[0]) == 10_000
    data._full_mnist.cache_clear()
    assert len(load_digits("heldout", "full")[0]) == 10_000
    assert found(big_downloads) == sorted(MNIST_FILES)
    assert [path.name for path in big_downloads.iterdir()] == ["MNIST"]
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() == patience


def test_failed_download_holds_for_the_session(goes_on, use_mirrors, healthy, downloads):
    with mirror(lambda handler: reply(handler, b"no", 503)) as (address, _):
        use_mirrors(address)
        goes_on()
    with healthy() as asked:  # back again, but the training images are already the embedded ones
        assert len(load_digits("heldout", "full")[0]) == 2000
        assert asked == []


def test_incomplete_folder_is_completed(big_downloads, healthy, capfd):
    write_mnist(big_downloads, t10k_labels=None)
    with healthy():
        assert len(load_digits("heldout", "full")[0]) == 10_000
    assert found(big_downloads) == sorted(MNIST_FILES)
    assert capfd.readouterr() == ("", "")


def test_incomplete_folder_stays_as_it_was_when_the_download_fails(downloads, use_mirrors, capsys):
    write_mnist(downloads, t10k_labels=None)
    before = found(downloads)
    with mirror(lambda handler: reply(handler, b"no", 503)) as (address, _):
        use_mirrors(address)
        assert len(load_digits("heldout", "full")[0]) == 2000
    assert found(downloads) == before
    assert capsys.readouterr().out.count("\n") == 1


def test_two_processes_download_at_the_same_time(big_downloads, healthy, capfd):
    def other_process_is_done(handler):
        if handler.path == f"/{MNIST_FILES[-1]}.gz" and not (big_downloads / "MNIST").exists():
            write_mnist(big_downloads)

    with healthy(other_process_is_done):
        assert len(load_digits("heldout", "full")[0]) == 10_000
    assert found(big_downloads) == sorted(MNIST_FILES)
    assert capfd.readouterr() == ("", "")


# ---- binarisation


@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**32),
)
def test_binarize_gives_zeros_and_ones_of_the_same_form(shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=generator, dtype=dtype)
    before = x.clone()
    drawn = binarize(x, generator)
    assert drawn.shape == x.shape
    assert drawn.dtype == dtype
    assert ((drawn == 0) | (drawn == 1)).all()
    assert_close(x, before, rtol=0, atol=0)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_binarize_repeats_with_the_seed_and_not_without(seed):
    x = torch.full((20, 50), 0.5)
    generator = torch.Generator().manual_seed(seed)
    first = binarize(x, generator)
    assert not torch.equal(binarize(x, generator), first)  # a fresh draw
    assert torch.equal(binarize(x, generator.manual_seed(seed)), first)


def test_binarize_follows_the_seed_of_torch_without_a_generator():
    x = torch.full((20, 50), 0.5)
    torch.manual_seed(3)
    first = binarize(x)
    torch.manual_seed(3)
    assert torch.equal(binarize(x), first)


def test_binarize_leaves_black_and_white_alone(monkeypatch):
    x = torch.tensor([0.0, 1.0]).repeat(1000)
    assert_close(binarize(x), x, rtol=0, atol=0)
    for extreme in (0, 1 - 2**-24):  # the smallest and the largest number that torch.rand gives
        monkeypatch.setattr(torch, "rand", lambda shape, extreme=extreme, **keywords: torch.full(shape, extreme))
        assert_close(binarize(x), x, rtol=0, atol=0)
    monkeypatch.undo()
    once = binarize(load_digits("heldout")[0])
    assert_close(binarize(once), once, rtol=0, atol=0)


def test_binarize_draws_each_pixel_with_its_own_value_as_probability():
    n, p = 100_000, torch.tensor([0.02, 0.3, 0.5, 0.9])
    drawn = binarize(p.expand(n, 4), torch.Generator().manual_seed(0))
    error = (p * (1 - p) / n).sqrt()
    assert ((drawn.mean(0) - p).abs() < 4 * error).all()


def test_binarize_draws_pixels_independently():
    n = 100_000
    drawn = binarize(torch.full((n, 3), 0.5), torch.Generator().manual_seed(0))
    correlation = torch.corrcoef(drawn.T) - torch.eye(3)
    assert correlation.abs().max() < 4 / n**0.5


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([0.5, 1.5], r"\[0.5, 1.5\]"),
        ([-0.1, 0.5], r"\[-0.1, 0.5\]"),
        ([0.0, 255.0], "divide by 255"),
        ([0.5, float("nan")], "nan"),
        ([float("inf"), 0.0], "inf"),
    ],
)
def test_binarize_refuses_what_is_no_probability(pixels, message):
    with pytest.raises(ValueError, match=message):
        binarize(torch.tensor(pixels))
