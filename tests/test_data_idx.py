"""The IDX reader: what it reads, and what it refuses."""

import gzip
import hashlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from ltgate.data import idx, sources
from ltgate.errors import UserError
from ltgate.params import Params

BYTES = arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


def zipped(content: bytes) -> bytes:
    """The same bytes at any time, so that every process names a test alike."""
    return gzip.compress(content, mtime=0)


def header(*shape, kind=8, dimensions=None):
    return bytes([0, 0, kind, len(shape) if dimensions is None else dimensions]) + struct.pack(
        f">{len(shape)}I", *shape
    )


def refusal(path, content):
    """The message with which ``content`` is refused; it names the file, in one line."""
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        idx.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


def test_layout_written_by_hand(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + bytes([1, 2, 3, 4, 5, 255]))
    data, digest = idx.read(path)
    assert data.dtype == np.uint8
    assert data.tolist() == [[1, 2, 3], [4, 5, 255]]
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@settings(max_examples=50, deadline=None)
@given(data=BYTES, suffix=st.sampled_from(["", ".gz"]))
def test_round_trip(folder, data, suffix):
    idx.write(folder / f"data{suffix}", data)
    (folder / f"data{suffix}").rename(folder / "data")  # what it is is seen from its content
    found, digest = idx.read(folder / "data")
    assert found.dtype == np.uint8 and found.shape == data.shape and np.array_equal(found, data)
    idx.write(folder / "plain", data)
    assert digest == hashlib.sha256((folder / "plain").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "not an IDX file"),
        (b"<html>not found</html>", "not an IDX file"),
        (header(2, kind=0x0D) + bytes(8), "0x0d"),
        (header(kind=8, dimensions=0), "0 dimensions"),
        (header(1, 1, 1, 1, 1) + b"\0", "5 dimensions"),
        (header(7, dimensions=2), "header ends early"),
        (header(3) + bytes(2), "truncated"),
        (header(3) + bytes(4), "too long"),
        (header(2**32 - 1, 28, 28) + bytes(9), "too large"),
        (header(2**32 - 1, 2**32 - 1, 0), "too large"),  # no element, and yet no array
        (zipped(header(3) + bytes(2)), "truncated"),
        (zipped(header(3) + bytes(4)), "too long"),
        (zipped(header(3) + bytes(3)) + b"more", "gzip"),
        (zipped(header(3) + bytes(3))[:-9], "gzip stream ends early"),
        (zipped(header(3) + b"abc")[:-8] + bytes(8), "CRC"),
        (b"\x1f\x8b", "gzip"),
    ],
)
def test_malformed_files(tmp_path, content, said):
    assert said in refusal(tmp_path / "file", content)
    with pytest.raises(UserError, match="nothing does not exist"):
        idx.read(tmp_path / "nothing")
    with pytest.raises(UserError, match=str(tmp_path)):
        idx.read(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_give_data_or_a_user_error(folder, content):
    for prefix in (b"", b"\0\0\x08", b"\x1f\x8b\x08"):
        path = folder / "fuzz"
        path.write_bytes(prefix + content)
        try:
            data, _ = idx.read(path)
        except UserError as error:
            assert str(path) in str(error)
        else:
            assert (prefix + content)[-data.size or None :] == data.tobytes() or data.size == 0


@pytest.mark.parametrize(
    "content",
    [
        zipped(header(10, 28, 28) + bytes(100_000_000)),  # a bomb behind a modest header
        zipped(header(2_000_000, 28, 28) + bytes(100)),  # a header that promises too much
        header(2_000_000, 28, 28) + bytes(100),
    ],
    ids=["bomb", "forged compressed", "forged"],
)
def test_memory_follows_the_declared_size_and_the_file(tmp_path, content):
    tracemalloc.start()
    try:
        refusal(tmp_path / "file", content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize("data", [np.zeros(3), np.uint8(3), np.zeros((1,) * 5, np.uint8)])
def test_write_refuses_what_cannot_be_read(tmp_path, data):
    with pytest.raises(UserError, match="allowed is uint8"):
        idx.write(tmp_path / "file", np.asarray(data))


# whole folders


def pools(shape=(28, 28), count=12):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    return images, (np.arange(count) % 3).astype(np.uint8)


@pytest.mark.parametrize("shape", [(28, 28), (3, 32, 32)])
def test_what_is_saved_is_read_under_the_returned_name_from_any_directory(
    tmp_path, shape, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    source = idx.save("mine", train=pools(shape), test=pools(shape, 6))
    assert source == f"idx:{tmp_path / 'here' / 'mine'}"
    monkeypatch.chdir(tmp_path)
    for pool, count in (("train", 12), ("test", 6)):
        found = sources.source(Params(source=source).source).read(pool)
        for array, wanted in zip(found, pools(shape, count), strict=True):
            assert np.array_equal(array, wanted)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ((pools()[0] / 255, pools()[1]), "^train images are float64; allowed is uint8$"),
        ((pools()[0], pools()[1].astype(int)), "^train labels are int64; allowed is uint8$"),
        (pools((784,)), r"^train images: shape \(12, 784\); allowed are \(N, height, width\) and"),
        (pools(count=0), r"^train images: shape \(0, 28, 28\); allowed are"),
        (pools((28, 0)), r"^train images: shape \(12, 28, 0\); allowed are"),
        ((pools()[0], pools()[1][:5]), r"^train labels: shape \(5,\); train images needs \(12,\)$"),
        (
            pools((32, 32)),
            r"^t10k images have shape \(12, 28, 28\); those of train .* \(12, 32, 32\)",
        ),
    ],
)
def test_save_refuses_what_reading_would_and_writes_nothing(tmp_path, train, told):
    with pytest.raises(UserError, match=told):
        idx.save(tmp_path / "mine", train=train, test=pools())
    assert not (tmp_path / "mine").exists()
