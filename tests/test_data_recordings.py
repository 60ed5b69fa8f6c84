"""Recordings in files of the published formats, written here, and events of one's own."""

import os
import re
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from ltgate import paths, results, train
from ltgate.data import SPLITS, is_test_file, open_task, recordings, sources, streams
from ltgate.data.tasks import TaskSpec
from ltgate.errors import UserError
from ltgate.params import Params

SHD = {"shd_bin_ms": 20.0, "shd_frames": 50}
NMNIST = {"nmnist_bin_ms": 10.0, "nmnist_frames": 32}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Build task files in a fresh root."""
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LTGATE_DATA_CACHE", raising=False)


def write_shd(path, samples, labels=None, kind=np.float16, units=np.uint16):
    """One file of SHD or SSC: ``samples`` are pairs of times (s) and units."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, place, dtype in (("times", 0, kind), ("units", 1, units)):
            data = file.create_dataset(
                f"spikes/{name}", (len(samples),), dtype=h5py.vlen_dtype(dtype)
            )
            for row, sample in enumerate(samples):
                data[row] = np.array(sample[place], dtype)
        file["labels"] = np.arange(len(samples)) % 2 if labels is None else labels
    return path


def write_nmnist(path, events):
    """One .bin: events are (x, y, polarity, microseconds)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = b"".join(
        (x << 32 | y << 24 | polarity << 23 | time).to_bytes(5, "big")
        for x, y, polarity, time in events
    )
    path.write_bytes(whole)
    return path


def spoken(random, count):
    return [(random.uniform(0, 0.9, 60), random.integers(0, 700, 60)) for _ in range(count)]


@pytest.fixture
def folder(tmp_path):
    """A folder that holds SHD files, N-MNIST files and events of one's own."""
    random = np.random.default_rng(0)
    for pool, ending, count in (("train", "Train", 24), ("test", "Test", 8)):
        write_shd(tmp_path / f"shd_{pool}.h5", spoken(random, count))
        for number in range(count):
            events = np.c_[
                random.integers(0, 34, (40, 2)),
                random.integers(0, 2, 40),
                np.sort(random.integers(0, 300_000, 40)),
            ].tolist()
            write_nmnist(tmp_path / ending / str(number % 2) / f"{number:05}.bin", events)
        frames = random.random((count, 40, 3, 1, 1)) < 0.2
        streams.save(tmp_path / f"{pool}.h5", streams.from_frames(frames), np.arange(count) % 2)
    return tmp_path


def tasks(frames, *rates):
    return [
        TaskSpec(name=f"at{i}", classes=[0, 1], frame_rate_hz=x, duration_ms=frames * 1000 / x)
        for i, x in enumerate(rates)
    ]


@pytest.mark.parametrize(
    ("kind", "more", "frames", "rates"),
    [
        ("shd", SHD, 50, (50.0, 12.5, 200.0)),  # as spoken, a quarter and four times as fast
        ("nmnist", NMNIST, 32, (100.0, 400.0)),
        ("events", {}, 40, (1000.0, 250.0)),
    ],
)
def test_recordings_train_at_several_speeds(folder, kind, more, frames, rates):
    params = Params.load(
        "timescales", source=f"{kind}:{folder}", tasks=tasks(frames, *rates), name="recorded",
        methods=["gate_layer"], hidden=[8], fan_in=3, other_rates=[rates[0] * 2], threads=1,
        device="cpu", seeds=[0], control=False, **more,
    )  # fmt: skip
    train.run(params)
    rows = results.load(paths.run("recorded"))
    accuracy = results.choose(rows, metric="accuracy", scenario="domain", split="test")
    assert len(accuracy) == len(rates) * (len(rates) + 1) / 2
    assert accuracy["value"].between(0, 1).all()


@pytest.mark.parametrize(
    ("kind", "more", "frames"), [("shd", SHD, 50), ("nmnist", NMNIST, 32), ("events", {}, 40)]
)
def test_only_the_final_evaluation_reads_test_files(folder, kind, more, frames, monkeypatch):
    params = Params(
        source=f"{kind}:{folder}", tasks=tasks(frames, 100.0), channels=[], strides=[], hidden=[4],
        readout_layers=["dense"], filters="random", methods=["lt_gate"], threads=1, **more,
    )  # fmt: skip
    read, plain = [], (streams.apart, recordings.Nmnist._sample)
    monkeypatch.setattr(
        streams, "apart", lambda path, *to: read.append(path) or plain[0](path, *to)
    )
    monkeypatch.setattr(
        recordings.Nmnist, "_sample", lambda self, path: read.append(path) or plain[1](self, path)
    )
    (trial,) = train.trials(params)
    train.train(trial)
    assert read and not any(map(is_test_file, read))
    train.evaluate(trial)  # the proof can fail: here they are
    test = set(sources.source(params.source).files("test"))
    assert {path for path in read if is_test_file(path)} == test


def test_shd_events_are_where_their_time_and_unit_say(tmp_path):
    samples = [([0.0, 0.0101, 0.9996, 2.0], [699, 3, 0, 5]), ([0.5], [7]), ([], [])]
    for kind in (np.float16, np.float32, np.float64):
        write_shd(tmp_path / "shd_train.h5", samples, kind=kind)
        found, labels = sources.of(Params(source=f"shd:{tmp_path}", **SHD)).read("train")
        places = [np.argwhere(x)[:, :2].tolist() for x in found.dense()]
        assert places == [[[0, 3], [0, 699], [49, 0]], [[25, 7]], []]  # a single event stays
        assert labels.tolist() == [0, 1, 0] and labels.dtype == np.uint8


def test_times_on_the_border_of_two_frames_are_in_the_later(tmp_path):
    for kind in (np.float32, np.float64):
        times = np.arange(140) / 100
        write_shd(tmp_path / "shd_train.h5", [(times, np.zeros(140))], kind=kind)
        found = sources.source(f"shd:{tmp_path}").read("train")[0]
        assert (found.events // 700).tolist() == list(range(140)), kind


def test_ssc_training_files_are_one_pool(tmp_path):
    for part, count in (("train", 3), ("valid", 2), ("test", 1)):
        write_shd(tmp_path / f"ssc_{part}.h5", [([0.105], [count])] * count, np.full(count, 34))
    source = sources.source(f"shd:{tmp_path}")
    assert source.read("train")[0].events.tolist() == [7003] * 3 + [7002] * 2
    assert len(source.read("test")[0]) == 1 and source.read("test")[1].tolist() == [34]


def test_nmnist_events_are_where_their_bits_say(tmp_path):
    events = [(33, 2, 1, 9_999), (0, 33, 0, 10_000), (4, 5, 1, 319_999), (4, 5, 1, 320_000)]
    late = [(1, 1, 0, 100), (0, 240, 0, 0), (1, 1, 0, 5_000)]  # 5,000 + 8,192 us
    write_nmnist(tmp_path / "Train/3/00001.bin", events)
    write_nmnist(tmp_path / "Train/3/00002.bin", late)
    write_nmnist(tmp_path / "Train/7/00000.bin", [(0, 0, 0, (1 << 23) - 1), (9, 8, 1, 7)])
    found, labels = sources.of(Params(source=f"nmnist:{tmp_path}", **NMNIST)).read("train")
    assert labels.tolist() == [3, 3, 7] and found.shape == (32, 2, 34, 34)
    places = [np.argwhere(x).tolist() for x in found.dense()]  # frame, polarity, y, x
    assert places == [
        [[0, 1, 2, 33], [1, 0, 33, 0], [31, 1, 5, 4]],
        [[0, 0, 1, 1], [1, 0, 1, 1]],
        [[0, 1, 8, 9]],
    ]


def test_a_task_shows_the_rows_of_its_classes(folder):
    for kind, more, frames in (("shd", SHD, 50), ("nmnist", NMNIST, 32), ("events", {}, 40)):
        params = Params(source=f"{kind}:{folder}", tasks=tasks(frames, 50.0), **more)
        whole, labels = sources.of(params).read("train")
        task = TaskSpec(**{**params.tasks[0].model_dump(), "classes": [1]})
        shown = np.concatenate(
            [np.asarray(open_task(params, task, x, seed=0).images) for x in SPLITS[:2]]
        )
        expected = whole.of(np.flatnonzero(labels == 1)).dense()
        assert sorted(x.tobytes() for x in shown) == sorted(x.tobytes() for x in expected)


def test_a_pool_opens_no_file_of_the_other_and_knows_its_content(folder):
    for kind in ("shd", "nmnist", "events"):
        source = sources.source(f"{kind}:{folder}")
        known = [source.identity(pool) for pool in ("train", "test")]
        for path in [*folder.glob("*test.h5"), *folder.glob("Test/*/*.bin")]:
            path.rename(f"{path}.away")
        source.read("train")
        assert source.identity("train") == known[0]
        with pytest.raises(UserError, match=re.escape(str(folder))):
            source.read("test")
        for path in folder.rglob("*.away"):
            path.rename(path.with_suffix(""))
        same = source.identity("test") == known[1]  # a moved file counts as another in a long list
        assert same == (kind != "nmnist") and known[1] != known[0]
    longer = sources.of(Params(source=f"shd:{folder}", shd_bin_ms=30.0))
    assert longer.identity("train") != sources.source(f"shd:{folder}").identity("train")


ONE = [([0.5], [7])]
BAD_SHD = {
    "sample 1: an event's time is nan; allowed are finite": [*ONE, ([np.nan], [1])],
    "sample 0: an event's time is inf; allowed are finite": [([0.1, np.inf], [1, 2])],
    "sample 0: an event's time is -1000.0; allowed are finite": [([-1.0], [1])],
    "sample 0: an event's unit is 700; allowed are 0 to 699": [([0.1], [700])],
    r"sample 0: times \[2\], units \[1\]; both are \[n\]": [([0.1, 0.2], [1])],
}


@pytest.mark.parametrize("told", BAD_SHD)
def test_bad_recordings_are_refused_in_one_line(tmp_path, told):
    path = write_shd(tmp_path / "shd_train.h5", BAD_SHD[told])
    refused(f"shd:{tmp_path}", f"{path}, {told}")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: f.__delitem__("spikes/units"), "spikes/units is a link, or is missing"),
        (lambda f: replace(f, "labels", [1, 2]), "spikes/times of 1 samples, .* labels of 2"),
        (lambda f: replace(f, "labels", [256]), "labels must be whole numbers from 0 to 255"),
        (lambda f: replace(f, "spikes/units", [7]), r"times \[1\], units \[\]; both are \[n\]"),
        (lambda f: replace(f, "spikes/units", [[7.0]]), "units of type float64; allowed are whole"),
    ],
)
def test_bad_shd_files_are_refused_in_one_line(tmp_path, damage, told):
    path = write_shd(tmp_path / "shd_train.h5", ONE)
    with h5py.File(path, "r+") as file:
        damage(file)
    refused(f"shd:{tmp_path}", f"{path}.*{told}")


def replace(file, name, values):
    del file[name]
    file[name] = np.array(values)


def test_files_that_are_missing_or_cut_are_named(tmp_path):
    refused(f"shd:{tmp_path}", "neither of shd_train.h5 and ssc_train.h5; needed is one of them")
    path = write_shd(tmp_path / "shd_train.h5", ONE)
    write_shd(tmp_path / "ssc_train.h5", ONE).write_bytes(b"")
    refused(f"shd:{tmp_path}", "shd and ssc of shd_train.h5 and ssc_train.h5")
    (tmp_path / "ssc_train.h5").unlink()
    path.write_bytes(path.read_bytes()[:-100])
    refused(f"shd:{tmp_path}", f"{path}: is no sound HDF5 file")


def crash(path):
    yield path.name
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(path):
    yield path.name
    time.sleep(60)


@pytest.mark.parametrize("end", [crash, hang])
def test_a_file_that_crashes_or_hangs_its_reader_is_told(tmp_path, monkeypatch, end):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    items = streams.apart(tmp_path / "a.h5", end, seconds=2)
    assert next(items) == "a.h5"
    with pytest.raises(UserError, match=f"^{tmp_path}/a.h5: .* reading it crashes or hangs$"):
        next(items)


BAD_NMNIST = {
    "an event's x is 34; allowed are 0 to 33": [(34, 0, 0, 1)],
    "an event's y is 255; allowed are 0 to 33": [(0, 0, 1, 1), (33, 255, 0, 1)],
    "is truncated: 0 bytes; allowed are whole events of 5 bytes": [],
}


@pytest.mark.parametrize("told", BAD_NMNIST)
def test_bad_nmnist_files_are_refused_in_one_line(tmp_path, told):
    refused(f"nmnist:{tmp_path}", f"{tmp_path / 'Train'}: holds no files <digit>/[*].bin")
    path = write_nmnist(tmp_path / "Train/0/00001.bin", BAD_NMNIST[told])
    refused(f"nmnist:{tmp_path}", f"{path}: {told}")
    write_nmnist(path, [(1, 2, 0, 3)] * 2)
    path.write_bytes(path.read_bytes()[:9])
    refused(f"nmnist:{tmp_path}", f"{path}: is truncated: 9 bytes")


def refused(name: str, told: str, pool: str = "train") -> None:
    with pytest.raises(UserError, match=told) as caught:
        sources.source(name).read(pool)
    assert "\n" not in str(caught.value)


def events_file(folder, name, value):
    """A sound file of events but for one dataset or attribute."""
    path = streams.save(folder / "train.h5", streams.from_frames(np.ones((2, 3, 1, 1, 2))), [0, 1])
    with h5py.File(path, "r+") as file:
        if name == "shape":
            file.attrs["shape"] = value
            return path
        del file[name]
        if isinstance(value, h5py.VirtualLayout):
            file.create_virtual_dataset(name, value)
        elif isinstance(value, dict):
            file.create_dataset(name, dtype="u1", **value)
        elif value is not None:
            file[name] = value
    return path


HUGE = {"shape": (2**40,)}  # nothing of it is stored
BOMB = {"shape": (2**28,), "chunks": (2**28,), "compression": "gzip"}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("events", [6] * 12, "an event at 6; allowed are 0 to 5"),
        ("events", [-1] * 12, "an event at -1; allowed are 0 to 5"),
        ("starts", [0, 12], r"starts \[2\], labels \[2\].* do not fit each other"),
        ("starts", [0, 13, 12], "do not fit each other"),
        ("labels", [0, -1], "labels must be whole numbers from 0 to 255"),
        ("labels", h5py.SoftLink("/events"), "labels is a link"),
        ("labels", h5py.ExternalLink("/dev/zero", "/labels"), "labels is a link"),
        ("labels", h5py.VirtualLayout((2,), np.uint8), "labels is no dataset of this file"),
        ("starts", HUGE, r"starts of shape \(1099511627776,\) is more than the file can hold"),
        ("starts", BOMB, r"starts of shape \(268435456,\) is more than the file can hold"),
        ("starts", np.array([0, 6, 12.0]), "do not fit each other"),
        ("starts", np.array([0, 2**64 - 6, 12], np.uint64), "do not fit each other"),
        ("labels", None, "is no sound HDF5 file of events .*labels"),
        ("shape", [3, 1, 2], "attribute shape is no"),
        ("shape", [3, 1, -1, -2], "attribute shape is no"),
        ("shape", [2**8] * 4, "attribute shape is no"),
        ("shape", [np.nan] * 4, "is no sound HDF5 file"),
    ],
)
def test_bad_files_of_events_are_refused_in_one_line(tmp_path, name, value, told):
    path: Path = events_file(tmp_path, name, value)
    refused(f"events:{tmp_path}", f"{path}.*{told}")


def test_saved_events_are_read_back(tmp_path):
    frames = np.random.default_rng(1).random((5, 7, 2, 3, 4)) < 0.3
    streams.save(tmp_path / "test.h5", streams.from_frames(frames), np.arange(5))
    found, labels = sources.source(f"events:{tmp_path}").read("test")
    assert np.array_equal(found.dense(), frames) and labels.tolist() == [0, 1, 2, 3, 4]


def test_the_code_of_the_page_writes_a_source(tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "timescales.md"
    code, setting = (
        re.search(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)[1]
        for language in ("python", "yaml")
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {})
    source = sources.source(f"events:{tmp_path / 'my_events'}")
    assert source.stream_shape == (100, 16, 1, 1) and len(source.read("test")[0]) == 50
    params = Params(**yaml.safe_load(setting))
    assert {task.frames for task in params.tasks} == {params.shd_frames}
