"""Task files, splits and batches; and that only the test split opens test files."""

import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltgate import files
from ltgate.data import (
    SPLITS,
    TaskImages,
    batches,
    idx,
    open_task,
    sources,
    store,
    task_file,
)
from ltgate.data.tasks import FAST, SLOW, TaskSpec
from ltgate.errors import UserError
from ltgate.params import Params

DIGITS = Params(source="digits")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Build task files in a fresh root."""
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    for name in ("LTGATE_DATA", "LTGATE_DATA_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    """IDX files of 100 training and 20 test images of classes 0 to 9; image i is filled with i."""
    values = np.arange(220, dtype=np.uint8)
    images, labels = np.tile(values[:, None, None], (1, 28, 28)), values % 10
    idx.save(tmp_path / "mine", (images[:100], labels[:100]), (images[200:], labels[200:]))
    return tmp_path / "mine"


@pytest.fixture
def own(folder):
    """Parameters of that folder, with its two tasks."""
    return Params(source=f"idx:{folder}")


@pytest.fixture
def builds(monkeypatch):
    """The arguments of every building of a task file."""
    found, build = [], store._build
    monkeypatch.setattr(store, "_build", lambda *args: (found.append(args), build(*args)))
    return found


def task_files(home):
    return sorted((home / "data" / "tasks").glob("*.h5"))


def content(split):
    return np.asarray(split.images).tolist(), split.labels.tolist(), split.fingerprint


# content of a split


def test_splits_hold_the_images_of_the_source_once(own):
    for task in own.tasks:
        parts = {split: open_task(own, task, split, seed=4) for split in SPLITS}
        for name, part in parts.items():
            assert part.images.dtype == np.uint8 and part.labels.dtype == np.int64
            assert part.images.shape == (len(part), 28, 28) and part.labels.shape == (len(part),)
            assert (part.task, part.split) == (task, name)
            assert np.array_equal(part.images[:][:, 0, 0] % 10, part.labels)
        shown = {name: np.asarray(part.images)[:, 5, 5].tolist() for name, part in parts.items()}
        assert shown["test"] == [200 + i for i in range(20) if i % 10 in task.classes]
        assert len(shown["train"]) == 40 and len(shown["validation"]) == 10
        whole = shown["train"] + shown["validation"]
        assert sorted(whole) == [i for i in range(100) if i % 10 in task.classes]


def test_split_follows_seed_and_classes_only(own):
    def shown(task=FAST, seed=0, split="validation"):
        return content(open_task(own, task, split, seed))

    assert shown() == shown()
    assert shown(seed=1) != shown(seed=0)
    same = TaskSpec(name="other", classes=[4, 3, 2, 1, 0], frame_rate_hz=50.0, duration_ms=40.0)
    assert shown(same) == shown()
    assert shown(seed=1, split="test") == shown(seed=0, split="test")


def test_fingerprint_tells_splits_seeds_classes_limits_and_content_apart(own, folder):
    limited = own.with_(train_images=39, test_images=9)
    found = [
        open_task(params, task, split, seed).fingerprint
        for params in (own, limited)
        for task in own.tasks
        for split in SPLITS
        for seed in (0, 1)
    ]
    # Of 24 openings: 8 test (seed is irrelevant: 4 kinds), 8 validation (no limit: 4), 8 train.
    assert len(set(found)) == 4 + 4 + 8
    before = open_task(own, FAST, "train", 0).fingerprint
    idx.write(folder / sources.FILES["train"][0], np.zeros((100, 28, 28), np.uint8))
    assert open_task(own, FAST, "train", 0).fingerprint != before


def test_limits(own):
    limited = own.with_(train_images=7, validation_images=3, test_images=4)
    for split, count in (("train", 7), ("validation", 3), ("test", 4)):
        everything = open_task(own, FAST, split, 0)
        part = open_task(limited, FAST, split, 0)
        assert len(part) == len(part.images) == count
        assert set(part.images[:][:, 0, 0]) < set(everything.images[:][:, 0, 0])
    assert len(open_task(own.with_(train_images=1000), FAST, "train", 0)) == 40
    # test rows are evenly spaced: 10 rows of 0, 1, 2, 3, 4, 0, 1, 2, 3, 4
    assert open_task(limited, FAST, "test", 0).labels.tolist() == [0, 2, 0, 2]


def test_rows_index_like_an_array(own):
    rows = open_task(own, FAST, "train", 0).images
    array = np.asarray(rows)
    keys = (3, -1, slice(2, 9), slice(None, None, -2), np.array([5, 1, 1]), array[:, 0, 0] > 50)
    for key in keys:
        assert np.array_equal(rows[key], array[key])
        assert rows[key].flags.writeable  # a copy: nothing written to it reaches the file
    with pytest.raises(IndexError):
        rows[len(rows)]


def test_open_split_pickles_without_its_images():
    split = open_task(DIGITS, FAST, "train", 0)
    split.images[0]
    frozen = pickle.dumps(split)
    assert len(frozen) < 20_000 < split.images[:].nbytes
    assert content(pickle.loads(frozen)) == content(split)


# mistakes


def test_mistakes_are_told_and_leave_no_file(own, home):
    strange = TaskSpec(name="strange", classes=[3, 11], frame_rate_hz=50.0, duration_ms=40.0)
    with pytest.raises(UserError, match=r"'strange': classes \[11\] .*allowed are \[0, 1, .* 9\]"):
        open_task(own, strange, "train", 0)
    with pytest.raises(UserError, match="split='dev'; allowed are train, validation, test"):
        open_task(DIGITS, FAST, "dev", 0)
    assert task_files(home) == []


def test_too_few_images_for_a_split(own):
    with pytest.raises(UserError, match=r"none for validation at validation_fraction=0\.005"):
        open_task(own.with_(validation_fraction=0.005), FAST, "validation", 0)
    with pytest.raises(UserError, match="leave none for train"):
        open_task(own.with_(validation_fraction=0.999), FAST, "train", 0)


# the file


def test_built_once_for_its_images_and_shared(own, home, folder, builds):
    for split in ("train", "validation"):
        open_task(own, FAST, split, 0)
    os.utime(folder / sources.FILES["train"][0])  # another time stamp, the same content
    open_task(own, FAST.model_copy(update={"frame_rate_hz": 50.0}), "train", 1)
    assert len(builds) == len(task_files(home)) == 1
    open_task(own, FAST, "test", 0)
    open_task(own, SLOW, "train", 0)
    assert len(builds) == len(task_files(home)) == 3


def test_built_once_by_several_at_a_time(own, builds):
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: content(open_task(own, FAST, "train", 0)), range(4))
    assert len(builds) == 1
    assert all(other == first for other in others)


def test_other_programs_read_it_as_hdf5_with_its_task(own, home):
    open_task(own, SLOW, "train", 0)
    (path,) = task_files(home)
    with h5py.File(path) as file:
        assert file["images"].shape == (50, 28, 28) and file["images"].dtype == np.uint8
        assert sorted(file["images"][:, 0, 0]) == [i for i in range(100) if i % 10 in SLOW.classes]
        told = {**file.attrs, "task_classes": file.attrs["task_classes"].tolist()}
    assert told.pop("shape").tolist() == [28, 28]
    assert told == {
        "source": own.source, "pool": "train", "task_name": "slow", "task_classes": SLOW.classes,
        "source_sha256": sources.source(own.source).identity("train"),
        "task_frame_rate_hz": 50.0, "task_duration_ms": 400.0,
    }  # fmt: skip
    assert path.stat().st_size < 50 * 785 + 8192


def age(path):
    """Change the time stamp: it may tick too slowly to tell two writes of a test apart."""
    os.utime(path, (1e9, 1e9))


def flip(path, where):
    data = bytearray(path.read_bytes())
    data[data.index(where) + len(where) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path, name, value):
    with h5py.File(path, "a") as file:
        del file[name]
        file[name] = value


def resealed(path, **changes):
    """Another user block under a checksum that fits it."""
    block = path.read_bytes()[task_file.SEAL : task_file.BLOCK]
    about = {**json.loads(block), **changes}
    with open(path, "r+b") as file:
        file.seek(task_file.SEAL)
        file.write(json.dumps(about).encode().ljust(len(block)))
        task_file.sign(file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not HDF5" * 1000),
        lambda path: path.write_bytes(path.read_bytes()[:-300]),
        lambda path: flip(path, bytes([50]) * 784),  # one pixel of image 50
        lambda path: flip(path, bytes([0, 1, 2, 3, 4] * 10)),  # one label
        lambda path: rewrite(path, "images", np.zeros((50, 28, 28), np.uint8)),
        lambda path: resealed(path, source_sha256="0" * 64),  # sound, but of another source
        lambda path: resealed(path, arrays={}),
    ],
)
def test_damaged_file_is_built_again(own, home, damage):
    before = content(open_task(own, FAST, "train", 0))
    (path,) = task_files(home)
    damage(path)
    age(path)
    with pytest.warns(UserWarning) as warned:
        assert content(open_task(own, FAST, "train", 0)) == before
    (message,) = [str(warning.message) for warning in warned]
    assert str(path) in message and "building it again" in message and "\n" not in message
    assert content(open_task(own, FAST, "train", 0)) == before  # without a warning


def test_no_changed_byte_of_a_file_goes_unseen(own, home):
    open_task(own, FAST, "train", 0)
    (path,) = task_files(home)
    identity = sources.source(own.source).identity("train")
    sound = path.read_bytes()
    rng = np.random.default_rng(0)
    edges = [0, task_file.SEAL, task_file.BLOCK - 1, task_file.BLOCK, len(sound) - 1]
    for at in [*edges, *rng.integers(0, len(sound), 100)]:
        damaged = bytearray(sound)
        damaged[at] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        age(path)
        with pytest.raises(ValueError, match="do not fit its checksum"):
            task_file.read(path, identity)
    path.write_bytes(sound)
    task_file.read(path, identity)


ONE = ["|u1", 1024, [50]]


@pytest.mark.parametrize(
    "changes",
    [
        {"arrays": 3},
        {"arrays": {"images": ["|u1", 1024, [50, 28, 28]]}},  # no labels
        {"arrays": {"labels": ONE}},  # nor images
        {"arrays": {"labels": ONE, "images": ["|u1", -5, [50, 28, 28]]}},
        {"arrays": {"labels": ONE, "images": ["|u1", 1024, [50, 2**40, 28]]}},
        {"arrays": {"labels": ONE, "images": ["|u1", 1024, [50, -28, -28]]}},
        {"arrays": {"labels": ONE, "images": ["|O", 1024, [50, 28, 28]]}},  # pointers
        {"arrays": {"labels": ONE, "images": ["<i4", 1024, [50, 28, 28]]}},
        {"arrays": {"labels": ["<u2", 1024, [50]], "images": ["|u1", 1024, [50, 28, 28]]}},
        {"arrays": {"labels": ONE, "events": ONE, "starts": ["|u1", 1024, [51]]}},
        {"shape": None},
        {"shape": [28, 29]},
        {"shape": [1e300, "x"]},
    ],
)
def test_what_lies_behind_the_seal_is_checked_too(own, home, changes):
    open_task(own, FAST, "train", 0)
    (path,) = task_files(home)
    resealed(path, **changes)
    age(path)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        task_file.read(path, sources.source(own.source).identity("train"))
    assert "checksum" not in str(caught.value)


def test_a_file_is_hashed_once_by_a_process(own, monkeypatch):
    before = content(open_task(own, FAST, "train", 0))
    monkeypatch.setattr(files, "COARSE_S", -1)  # as if it had been written long ago
    open_task(own, FAST, "train", 0)
    monkeypatch.setattr(task_file, "_digest", None)
    assert content(open_task(own, FAST, "train", 0)) == before


def test_failed_build_leaves_nothing(own, home, monkeypatch):
    monkeypatch.setattr(task_file, "seal", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_task(own, FAST, "train", 0)
    assert [path.suffix for path in (home / "data" / "tasks").iterdir()] == [".lock"]


# batches


def of_arrays(count):
    """A split without a file, whose image i is filled with i."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 28, 28))
    return TaskImages(FAST, "train", images, np.arange(count) % 5, "")


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 120), batch_size=st.integers(1, 50), shuffled=st.booleans())
def test_batches_cover_every_image_once(count, batch_size, shuffled):
    split = of_arrays(count)
    generator = np.random.default_rng(count) if shuffled else None
    found = list(batches(split, batch_size, generator))
    assert [len(batch) for batch in found[:-1]] == [batch_size] * (len(found) - 1)
    assert 1 <= len(found[-1]) <= batch_size
    indices = np.concatenate([batch.indices for batch in found])
    assert (sorted(indices) if shuffled else indices.tolist()) == list(range(count))
    for batch in found:
        assert batch.task == FAST
        assert batch.images.shape == (len(batch), 28, 28) and batch.images.dtype == np.uint8
        assert batch.indices.dtype == batch.labels.dtype == np.int64
        assert np.array_equal(batch.images[:, 0, 0], batch.indices)
        assert np.array_equal(batch.labels, split.labels[batch.indices])


def test_shuffling_follows_the_generator():
    def order(generator):
        return [int(i) for batch in batches(of_arrays(50), 8, generator) for i in batch.indices]

    assert order(np.random.default_rng(1)) == order(np.random.default_rng(1))
    assert order(np.random.default_rng(1)) != order(np.random.default_rng(2))
    one = np.random.default_rng(1)
    assert order(one) != order(one)  # every epoch another order
    one, two = np.random.default_rng(1), np.random.default_rng(1)
    batches(of_arrays(50), 8, one)  # drawn at the call, before the first batch is taken
    two.permutation(50)
    assert one.bit_generator.state == two.bit_generator.state


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_give_the_same_batches(own):
    split = open_task(own, FAST, "train", 0)
    here = list(batches(split, 6, np.random.default_rng(5)))
    state = torch.get_rng_state()
    there = list(batches(split, 6, np.random.default_rng(5), workers=2, prefetch=3))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(here) == len(there) == 7
    for one, other in zip(here, there, strict=True):
        for name in ("images", "labels", "indices"):
            assert type(getattr(other, name)) is np.ndarray
            assert np.array_equal(getattr(one, name), getattr(other, name))
        assert other.task == FAST


def use(params, split):
    for task in params.tasks:
        for batch in batches(open_task(params, task, split, 0), 16):
            assert batch.images.any()


@pytest.mark.parametrize("source", ["mnist", "idx"])
def test_training_needs_no_test_files(own, folder, source, monkeypatch):
    """That nothing but the final evaluation opens one is shown in ``test_train.py``."""
    for name in [name for pool in sources.FILES.values() for name in pool]:
        monkeypatch.setitem(sources.MNIST_SHA256, name, files.sha256(folder / name))
    for name in sources.FILES["test"]:
        (folder / name).unlink()
    params = own if source == "idx" else Params(source=source, data_folder=str(folder))
    use(params, "train")
    use(params, "validation")
    with pytest.raises(UserError, match="t10k-images-idx3-ubyte does not exist"):
        use(params, "test")
