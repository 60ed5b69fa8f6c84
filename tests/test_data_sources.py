"""Sources: the bundled digits, MNIST from a folder or a server, other IDX files."""

import functools
import hashlib
import http.server
import os
import re
import threading
from fractions import Fraction

import numpy as np
import pytest
import requests
from sklearn.datasets import load_digits

from ltgate import paths
from ltgate.data import idx, sources
from ltgate.errors import UserError
from ltgate.params import Params

REAL_MNIST = os.environ.get("LTGATE_DATA")
ROOT = paths.root()  # before a test moves it
NAMES = [name for pool in sources.FILES.values() for name in pool]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Keep downloads and relative folders in a fresh root."""
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path / "home"))
    for name in ("LTGATE_DATA", "LTGATE_DATA_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def write_idx(folder, suffix="", train=20, test=10, side=28):
    """A folder of small random files with MNIST's names; returns the arrays by name."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    arrays = {}
    for pool, count in (("train", train), ("test", test)):
        images, labels = sources.FILES[pool]
        arrays[images] = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
        arrays[labels] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in arrays.items():
        idx.write(folder / f"{name}{suffix}", array)
    return arrays


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder whose files pass for MNIST."""
    folder = tmp_path / "small"
    arrays = write_idx(folder, ".gz")
    for name in NAMES:
        monkeypatch.setitem(sources.MNIST_SHA256, name, idx.read(folder / f"{name}.gz")[1])
    return folder, arrays


# digits


def test_digits_pools_are_the_whole_set_once():
    parts = [sources.source("digits").read(pool) for pool in ("train", "test")]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    bundle = load_digits()
    assert len(labels) == len(bundle.target) == 1797

    def counted(images, labels):
        return sorted((int(y), x.tobytes()) for x, y in zip(images, labels, strict=True))

    assert counted(images, labels) == counted(
        sources.enlarge(bundle.images.astype(int)), bundle.target
    )
    fifth = np.bincount(bundle.target) // 5  # of each class is for testing
    assert np.array_equal(np.bincount(parts[1][1]), fifth)


def test_enlarge_is_bilinear_interpolation():
    image = np.random.default_rng(0).integers(0, 17, (1, 8, 8))

    def at(i, j):  # black outside
        return int(image[0, i, j]) if 0 <= i < 8 and 0 <= j < 8 else 0

    expected = np.zeros((28, 28), int)
    for row in range(20):
        for column in range(20):
            y, x = (Fraction(2 * n + 1, 5) - Fraction(1, 2) for n in (row, column))
            i, j = y.__floor__(), x.__floor__()
            v, u = y - i, x - j
            value = (1 - v) * ((1 - u) * at(i, j) + u * at(i, j + 1)) + v * (
                (1 - u) * at(i + 1, j) + u * at(i + 1, j + 1)
            )
            expected[row + 4, column + 4] = int(value * 255 / 16 + Fraction(1, 2))
    assert np.array_equal(sources.enlarge(image)[0], expected)


def test_other_digits_are_refused(monkeypatch):
    monkeypatch.setitem(sources.DIGITS_SHA256, "test", "0" * 64)
    with pytest.raises(UserError, match=r"scikit-learn .* bundles other images"):
        sources.source("digits").read("test")


# mnist


@pytest.mark.parametrize("given", ["data_folder", "LTGATE_DATA"])
def test_mnist_from_a_folder(small_mnist, home, monkeypatch, given):
    folder, arrays = small_mnist
    home.mkdir()
    relative = os.path.relpath(folder, home)  # to the project's root
    if given == "LTGATE_DATA":
        monkeypatch.setenv("LTGATE_DATA", relative)
    params = Params(source="mnist", data_folder=relative if given == "data_folder" else "")
    monkeypatch.setattr(requests, "get", None)
    origin = sources.of(params)
    assert origin.image_shape == (1, 28, 28)
    for pool, (images, labels) in sources.FILES.items():
        found = origin.read(pool)
        assert np.array_equal(found[0], arrays[images])
        assert np.array_equal(found[1], arrays[labels])
    path = folder / f"{NAMES[1]}.gz"
    (folder / f"{NAMES[3]}.gz").rename(path)
    told = f"^{given}: {path} is not MNIST's {NAMES[1]}: .* is {sources.MNIST_SHA256[NAMES[1]]}$"
    with pytest.raises(UserError, match=told):
        origin.read("train")
    path.unlink()
    for use in (origin.read, origin.files):
        with pytest.raises(UserError, match=f"^{given}: {folder / NAMES[1]} does not exist$"):
            use("train")


@pytest.mark.skipif(not REAL_MNIST, reason="LTGATE_DATA names no folder with MNIST")
def test_real_mnist():
    params = Params(source="mnist", data_folder=str(ROOT / REAL_MNIST))
    images, labels = sources.of(params).read("train")
    assert images.shape == (60000, 28, 28)
    # Known independently: the MD5 of the uncompressed training images.
    header = bytes([0, 0, 8, 3]) + np.array(images.shape, ">u4").tobytes()
    md5 = hashlib.md5(header + images.tobytes(), usedforsecurity=False).hexdigest()
    assert md5 == "6bbc9ace898e44ae57da46a324031adb"
    assert np.bincount(labels)[:2].tolist() == [5923, 6742]


# mnist, downloaded


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server of tmp_path on this machine; yields its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_download_takes_the_first_sound_mirror(small_mnist, served, tmp_path, home, monkeypatch):
    _, arrays = small_mnist
    rng = np.random.default_rng(8)
    (tmp_path / "wrong").mkdir()
    for name in NAMES:
        noise = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
        idx.write(tmp_path / "wrong" / f"{name}.gz", noise)
    mirrors = (f"{served}absent/", f"{served}wrong/", f"{served}small/")
    monkeypatch.setattr(sources, "MNIST_MIRRORS", mirrors)
    origin = sources.source("mnist")
    images, labels = origin.read("train")
    assert np.array_equal(images, arrays[NAMES[0]])
    assert np.array_equal(labels, arrays[NAMES[1]])
    kept = sorted(path.name for path in (home / "data" / "mnist").iterdir())
    # Nothing half-done was left, and the test files were not even downloaded.
    assert [name for name in kept if not name.endswith(".lock")] == [f"{n}.gz" for n in NAMES[:2]]

    monkeypatch.setattr(requests, "get", None)
    assert np.array_equal(origin.read("train")[0], images)  # from the kept files


def test_damaged_download_is_fetched_again(small_mnist, served, home, monkeypatch):
    _, arrays = small_mnist
    monkeypatch.setattr(sources, "MNIST_MIRRORS", (f"{served}small/",))
    origin = sources.source("mnist")
    origin.read("test")
    kept = home / "data" / "mnist" / f"{NAMES[2]}.gz"
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.warns(UserWarning, match=f"{NAMES[2]}.*downloading it again"):
        images, _ = origin.read("test")
    assert np.array_equal(images, arrays[NAMES[2]])


def test_no_mirror_is_one_clear_line(small_mnist, served, home, monkeypatch):
    nobody = "http://127.0.0.1:9/"  # refuses connections
    monkeypatch.setattr(sources, "MNIST_MIRRORS", (f"{served}absent/", nobody))
    with pytest.raises(UserError) as caught:
        sources.source("mnist").read("train")
    message = str(caught.value)
    assert "absent/ (HTTPError)" in message and "127.0.0.1:9/ (ConnectionError)" in message
    assert "data_folder" in message and "LTGATE_DATA" in message
    assert "\n" not in message
    assert not list((home / "data" / "mnist").glob("*.gz"))
    assert not list((home / "data" / "mnist").glob(".tmp-*"))


# idx


def test_idx_identity_follows_the_content(tmp_path):
    write_idx(tmp_path / "mine")
    origin = sources.source(f"idx:{tmp_path / 'mine'}")
    before = {pool: origin.identity(pool) for pool in sources.FILES}
    idx.write(tmp_path / "mine" / NAMES[1], np.zeros(20, np.uint8))
    os.utime(tmp_path / "mine" / NAMES[1], (1e9, 1e9))  # clocks of file systems tick slowly
    assert origin.identity("train") != before["train"]
    assert origin.identity("test") == before["test"]


@pytest.mark.parametrize("shape", [(34, 20), (3, 32, 32), (1, 28, 28)], ids=str)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_images_of_any_shape(tmp_path, shape, ending):
    folder = tmp_path / "mine"
    write_idx(folder)
    images = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    for name in (NAMES[0], NAMES[2]):
        (folder / name).unlink()
        idx.write(folder / f"{name}{ending}", images)
    origin = sources.source(f"idx:{folder}")
    assert origin.image_shape == (1, *shape)[-3:]
    assert np.array_equal(origin.read("train")[0], images[:, 0] if shape[0] == 1 else images)


@pytest.mark.parametrize("shape", [(20,), (20, 784), (20, 0, 28), (20, 3, 0, 28), (0, 28, 28)])
def test_idx_other_than_images_is_named(tmp_path, shape):
    folder = tmp_path / "mine"
    write_idx(folder)
    idx.write(folder / NAMES[0], np.zeros(shape, np.uint8))
    origin = sources.source(f"idx:{folder}")
    told = re.escape(f"{folder / NAMES[0]}: shape {shape}; allowed are (N, height, width) and")
    for use in (lambda: origin.image_shape, lambda: origin.read("train")):
        with pytest.raises(UserError, match=told):
            use()


def test_idx_labels_that_do_not_fit_or_are_missing(tmp_path):
    write_idx(tmp_path / "mine")
    path = tmp_path / "mine" / NAMES[1]
    idx.write(path, np.zeros(19, np.uint8))
    origin = sources.source(f"idx:{tmp_path / 'mine'}")
    with pytest.raises(UserError, match=r": shape \(19,\); .*needs \(20,\)"):
        origin.read("train")
    path.unlink()
    for use in (origin.read, origin.identity):
        with pytest.raises(UserError, match=f"{path} does not exist"):
            use("train")


@pytest.mark.parametrize("name", ["", "cifar", "idx:", "MNIST"])
def test_unknown_source(name):
    with pytest.raises(UserError, match="allowed are digits, mnist, idx:FOLDER"):
        sources.source(name)
