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


def test_digits_test_pool_is_a_fifth_of_each_class():
    of_class = {
        pool: np.bincount(sources.source("digits").read(pool)[1]) for pool in ("train", "test")
    }
    total = np.bincount(load_digits().target)
    assert of_class["test"].tolist() == (total // 5).tolist()
    assert (of_class["train"] + of_class["test"]).tolist() == total.tolist()


def test_digits_fill_the_range_inside_a_border():
    images, labels = sources.source("digits").read("train")
    assert images.dtype == labels.dtype == np.uint8
    assert images.shape[1:] == (28, 28)
    border = np.ones((28, 28), bool)
    border[4:-4, 4:-4] = False
    assert not images[:, border].any()
    assert images.min() == 0 and images.max() > 220
    assert 30 < images.mean() < 45  # MNIST's is 33


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


@pytest.mark.parametrize("given", ["parameter", "environment"])
def test_mnist_from_a_folder(small_mnist, monkeypatch, given):
    folder, arrays = small_mnist
    if given == "environment":
        monkeypatch.setenv("LTGATE_DATA", str(folder))
    origin = sources.source("mnist", str(folder) if given == "parameter" else "")
    for pool, (images, labels) in sources.FILES.items():
        found = origin.read(pool)
        assert np.array_equal(found[0], arrays[images])
        assert np.array_equal(found[1], arrays[labels])


def test_mnist_folder_relative_to_the_root(small_mnist, home):
    folder, arrays = small_mnist
    home.mkdir()
    origin = sources.source("mnist", os.path.relpath(folder, home))
    assert np.array_equal(origin.read("test")[0], arrays[NAMES[2]])


def test_mnist_wrong_hash_names_the_file(tmp_path):
    write_idx(tmp_path / "other")
    with pytest.raises(UserError) as caught:
        sources.source("mnist", str(tmp_path / "other")).read("train")
    message = str(caught.value)
    assert str(tmp_path / "other" / NAMES[0]) in message
    assert "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db" in message
    assert "\n" not in message


def test_mnist_missing_file_is_named_and_not_downloaded(small_mnist, monkeypatch):
    folder, _ = small_mnist
    (folder / f"{NAMES[1]}.gz").unlink()
    monkeypatch.setattr(requests, "get", None)
    with pytest.raises(UserError, match=f"{folder / NAMES[1]} does not exist"):
        sources.source("mnist", str(folder)).read("train")


def test_identities_differ_by_pool_and_source():
    found = {
        sources.source(name).identity(pool)
        for name in ("digits", "mnist")
        for pool in ("train", "test")
    }
    assert len(found) == 4
    assert all(len(identity) == 64 for identity in found)


@pytest.mark.skipif(not REAL_MNIST, reason="LTGATE_DATA names no folder with MNIST")
def test_real_mnist():
    images, labels = sources.source("mnist", str(ROOT / REAL_MNIST)).read("train")
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


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folder(tmp_path, suffix):
    arrays = write_idx(tmp_path / "mine", suffix)
    images, labels = sources.source(f"idx:{tmp_path / 'mine'}").read("test")
    assert np.array_equal(images, arrays[NAMES[2]])
    assert np.array_equal(labels, arrays[NAMES[3]])


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


def test_the_shape_of_known_images_is_told_without_reading_them():
    for name in ("digits", "mnist"):
        assert sources.source(name).image_shape == (1, 28, 28)


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


def test_idx_labels_that_do_not_fit(tmp_path):
    write_idx(tmp_path / "mine")
    idx.write(tmp_path / "mine" / NAMES[1], np.zeros(19, np.uint8))
    with pytest.raises(UserError, match=r": shape \(19,\); .*needs \(20,\)"):
        sources.source(f"idx:{tmp_path / 'mine'}").read("train")


def test_idx_missing_folder(tmp_path):
    origin = sources.source(f"idx:{tmp_path / 'nothing'}")
    for use in (origin.read, origin.identity):
        with pytest.raises(UserError, match=f"{tmp_path / 'nothing' / NAMES[0]} does not exist"):
            use("train")


@pytest.mark.parametrize("name", ["", "cifar", "idx:", "MNIST"])
def test_unknown_source(name):
    with pytest.raises(UserError, match="allowed are digits, mnist, idx:FOLDER"):
        sources.source(name)
