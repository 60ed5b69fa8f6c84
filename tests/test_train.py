"""The continual loop: order, resume after any stop, a real kill, test files, results, controls."""

import json
import os
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import small_grid
import torch
from processes import run_python

from ltgate import checkpoint, files, memory, methods, paths, results, train
from ltgate.data import idx, open_task, sources
from ltgate.data.tasks import TaskSpec
from ltgate.errors import NotFinite, UserError
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params
from ltgate.train import Trial

PARAMS = Params(**{
    **small_grid.PARAMS, "name": "tiny", "methods": ["lt_gate"], "validation_images": 8,
    "epochs": 2, "control": True,
})  # fmt: skip
TASKS = PARAMS.tasks
BATCHES = 6  # of a task: 2 epochs x 24 images / 8

pytestmark = pytest.mark.usefixtures("cache", "home", "one_thread")


def rows_on_disk(home):
    """The bytes of every result file."""
    return {file.name: file.read_bytes() for file in home.glob("runs/*/results/*.csv")}


# a method that does nothing but what the interface asks for, and writes down what it is asked


class Means:
    """Scores are products with the mean image of every class."""

    preset: ClassVar[dict] = {}
    sees = staticmethod(list)
    log: ClassVar[list[tuple]] = []

    def __init__(self, params, generator):
        classes = 1 + max(label for task in params.tasks for label in task.classes)
        self.sums = torch.zeros(classes, 784, dtype=torch.float64)
        self.generator = generator

    @classmethod
    def configure(cls, params):
        return params

    def curriculum(self, position):
        return [position]

    def begin_task(self, position, images):
        self.log.append(("begin", position, images.task.name, images.split))

    def learn(self, images, batch):
        self.log.append(("learn", images.task.name, images.split, batch.indices.tolist()))
        self.generator.random()
        for image, label in zip(batch.images, batch.labels, strict=True):
            self.sums[label] += torch.from_numpy(image.ravel()) / 256

    def end_task(self, position):
        self.log.append(("end", position))

    def scores(self, images, number=0):
        pixels = torch.from_numpy(images.images[: number or None]).flatten(1) / 256
        return pixels.double() @ torch.nn.functional.normalize(self.sums, dim=1).T

    def spikes(self, images):
        return {"one": float(len(images)), "two": 1.0}

    def state(self):
        return {"sums": self.sums}, {"generator": self.generator.bit_generator.state}

    def load(self, tensors, plain):
        self.sums = tensors["sums"].clone()
        self.generator.bit_generator.state = plain["generator"]

    def snapshot(self):
        return {"sums": self.sums}, {}

    def load_snapshot(self, tensors, plain):
        self.sums = tensors["sums"].clone()


THREE = [*TASKS, TaskSpec(name="last", classes=[5, 9], frame_rate_hz=100.0, duration_ms=30.0)]
NAMES = [task.name for task in THREE]


@pytest.fixture
def means(monkeypatch):
    """Parameters of :class:`Means` on three tasks, with nothing written down yet."""
    monkeypatch.setitem(methods.METHODS, "means", Means)
    Means.log = []
    return PARAMS.with_(methods=["means"], tasks=THREE)


# the loop


def test_tasks_come_in_order_and_every_epoch_shows_every_image_once(means):
    train.train(Trial(means, "means", 0))
    log = iter(Means.log)
    orders = []
    for position, task in enumerate(THREE):
        assert next(log) == ("begin", position, task.name, "train")
        for _ in range(means.epochs):
            shown = []
            for _ in range(3):
                what, name, split, indices = next(log)
                assert (what, name, split, len(indices)) == ("learn", task.name, "train", 8)
                shown += indices
            assert sorted(shown) == list(range(24))
            orders.append(shown)
        assert next(log) == ("end", position)
    assert list(log) == []
    assert len({tuple(order) for order in orders}) == len(orders)  # another order every time


def test_order_follows_the_seed_alone(means):
    def order(name, seed):
        Means.log = []
        train.train(Trial(means.with_(name=name), "means", seed))
        return Means.log

    first = order("one", seed=0)
    assert order("other", seed=0) == first
    assert order("one", seed=1) != first


def test_batches_of_several_tasks_are_mixed_and_complete():
    trial = Trial(PARAMS, "joint", 0)
    opened = [trial.open(position, "train") for position in range(2)]
    stream = [(source.task.name, batch) for source, batch in train._stream(trial, opened, 1)]
    assert len(stream) == 2 * BATCHES
    for epoch in (stream[:BATCHES], stream[BATCHES:]):
        for task in TASKS:
            shown = [i for name, batch in epoch if name == task.name for i in batch.indices]
            assert sorted(shown) == list(range(24))
        names = [name for name, _ in epoch]
        assert names not in (sorted(names), sorted(names, reverse=True))


def test_first_tasks_only(means, home):
    trial = Trial(means, "means", 0)
    first = train.train(trial, positions=1)
    assert [entry[:2] for entry in Means.log if entry[0] != "learn"] == [("begin", 0), ("end", 0)]
    assert {row["task"] for row in first} == {"fast"}
    Means.log = []
    everything = train.train(trial)  # goes on where it stopped
    assert Means.log[0][:2] == ("begin", 1)
    assert everything[: len(first)] == first
    assert train.train(trial) == everything  # nothing left to learn
    assert len([entry for entry in Means.log if entry[0] == "begin"]) == 2


# result rows


def by_hand(params, seed):
    """R of :class:`Means`, [T, T], class- and task-incremental, from the images alone."""
    sums, R = np.zeros((10, 784)), {s: np.full((3, 3), np.nan) for s in ("class", "task")}
    every = [label for task in params.tasks for label in task.classes]
    for step, task in enumerate(params.tasks):
        images = open_task(params, task, "train", seed)
        for image, label in zip(images.images[:], images.labels, strict=True):
            sums[label] += image.ravel() / 256
        for column, other in enumerate(params.tasks[: step + 1]):
            test = open_task(params, other, "test", seed)
            for scenario, classes in (("class", every), ("task", other.classes)):
                prototypes = [sums[k] / max(np.linalg.norm(sums[k]), 1e-9) for k in classes]
                right = 0
                for image, label in zip(test.images[:], test.labels, strict=True):
                    products = [float(image.ravel() / 256 @ p) for p in prototypes]
                    right += classes[int(np.argmax(products))] == label
                R[scenario][step, column] = right / len(test)
    return R


def test_r_is_what_the_images_give(means):
    train.run(means.with_(control=False, seeds=[0, 3]))
    frame = results.load(train.paths.run("tiny"))
    for seed in (0, 3):
        expected = by_hand(means, seed)
        for scenario in ("class", "task"):
            found = results.r_matrix(
                frame, method="means", seed=seed, scenario=scenario, split="test"
            )
            assert found.shape == (3, 3)
            np.testing.assert_allclose(found, expected[scenario])
    assert not np.array_equal(by_hand(means, 0)["class"], by_hand(means, 3)["class"])


def test_a_search_holds_its_trial_until_it_is_measured_and_leaves_nothing(means, monkeypatch):
    """A run of the same trial at the same time must not lose its snapshots to the search."""
    trial, plain = Trial(means, "means", 0), train.evaluate
    lock_file = paths.run(means.name) / "locks" / f"{trial.key}.lock"

    def held(*arguments):
        with pytest.raises(BlockingIOError), files.lock(lock_file, wait=False):
            pass
        return plain(*arguments)

    monkeypatch.setattr(train, "evaluate", held)
    rows = train.measure(trial, "validation")
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert not trial.folder.exists()
    monkeypatch.setattr(train, "evaluate", plain)
    train.run_trial(trial)
    kept = sorted(trial.folder.iterdir())
    assert train.measure(trial, "validation") == rows
    assert sorted(trial.folder.iterdir()) == kept != []


def test_rows_of_one_trial(means):
    trial = Trial(means, "means", 0)
    curves, ends = train.train(trial), train.evaluate(trial)
    for row in curves + ends:
        assert row.keys() == results.COLUMNS.keys()
        assert (row["config"], row["method"], row["seed"]) == (means.hash, "means", 0)
        assert (row["sequence"], row["cue"]) == ("fast>slow>last", "yes")
        assert row["train_images"] == 72
    begins = [row for row in curves if row["metric"] == "boundary"]
    assert [(r["task"], r["step"], r["value"]) for r in begins] == [
        ("fast", 0, 0),
        ("slow", BATCHES, 1),
        ("last", 2 * BATCHES, 2),
    ]
    points = [row for row in curves if row["metric"] == "curve_accuracy"]
    assert len(begins) + len(points) == len(curves)
    assert {row["split"] for row in points} == {"validation"}
    expected = [
        (BATCHES * position + done, NAMES[met], scenario)
        for position in range(3)
        for done in (3, 6)
        for met in range(position + 1)
        for scenario in ("class", "task")
    ]
    assert [(row["step"], row["task"], row["scenario"]) for row in points] == expected
    assert {row["split"] for row in ends} == {"test"}
    entries = [row for row in ends if row["metric"] == "accuracy"]
    assert [(row["step"], row["task"]) for row in entries if row["scenario"] == "class"] == [
        (step, NAMES[column]) for step in range(3) for column in range(step + 1)
    ]
    others = {row["metric"]: row["value"] for row in ends if row["metric"] != "accuracy"}
    assert 0 <= others.pop("task_told") <= 1
    assert others == {"spikes_per_sample": 13.0, "state_bytes": 10 * 784 * 8}  # 12 test images + 1


def test_the_curve_is_the_accuracy_on_validation_images(means):
    trial = Trial(means, "means", 0)
    rows = train.train(trial, positions=1)
    learner = trial.restore("task0.safetensors")
    images = trial.open(0, "validation")
    best = np.array(TASKS[0].classes)[learner.scores(images)[:, :3].argmax(1)]
    last = [row["value"] for row in rows if row["step"] == BATCHES]
    assert last == [float(np.mean(best == images.labels))] * 2  # of one task both scenarios are one


@pytest.mark.parametrize("method", methods.names())
def test_every_method_fills_the_triangle(method, home):
    train.run(PARAMS.with_(methods=[method]))
    frame = results.load(home / "runs/tiny")
    for cue in ("yes", "no"):
        for scenario in ("class", "task"):
            R = results.r_matrix(frame, cue=cue, scenario=scenario, split="test")
            assert R.shape == (2, 2)
            assert np.isnan(R[0, 1])
            below = R[np.tril_indices(2)]
            assert ((below >= 0) & (below <= 1)).all()
        costs = frame[(frame["cue"] == cue) & (frame["metric"] == "state_bytes")]
        assert (costs["value"] > 1000).all() and len(costs) == 2


# trials and controls


def test_trials_are_all_methods_seeds_and_controls():
    made = train.trials(PARAMS.with_(methods=["lt_gate", "joint"], seeds=[0, 5]))
    assert [(t.cue, t.seed, t.method) for t in made] == [
        (cue, seed, method)
        for cue in (True, False)
        for method in ("lt_gate", "joint")
        for seed in (0, 5)
    ]
    assert len({trial.key for trial in made}) == len({trial.folder for trial in made}) == 8
    assert [trial.cue for trial in train.trials(PARAMS.with_(control=False))] == [True]
    assert [trial.cue for trial in train.trials(PARAMS.with_(tasks=TASKS[:1]))] == [True]


def test_the_control_learns_at_one_rate(monkeypatch):
    seen = []
    plain = SpikingLearner.learn

    def spied(self, images, batch):
        seen.append((images.task.name, images.task.frames, batch.task.frames))
        return plain(self, images, batch)

    monkeypatch.setattr(SpikingLearner, "learn", spied)
    for cue in (True, False):
        train.train(Trial(PARAMS, "lt_gate", 0, cue))
    slow = [entry for entry in seen if entry[0] == "slow"]
    assert slow == [("slow", 6, 6)] * BATCHES + [("slow", 10, 10)] * BATCHES


# nothing twice


def test_a_second_run_does_nothing(means, home, monkeypatch):
    train.run(means)
    before = rows_on_disk(home)
    assert len(before) == 2
    times = {file: file.stat().st_mtime_ns for file in home.rglob("*") if file.is_file()}
    Means.log = []
    train.run(means)
    assert Means.log == []
    assert {f: f.stat().st_mtime_ns for f in home.rglob("*") if f.is_file()} == times
    (home / "runs/tiny/results" / sorted(before)[0]).unlink()
    train.run(means)  # what is missing is made again, to the byte
    assert rows_on_disk(home) == before
    assert len([entry for entry in Means.log if entry[0] == "begin"]) == 3


# checkpoints on the way


def test_checkpoints_are_kept_up_to_the_limit_and_removed_at_the_end(means, monkeypatch):
    trial = Trial(means.with_(keep_checkpoints=2, checkpoint_every=1), "means", 0)
    written, plain = [], checkpoint.save

    def counted(path, tensors, data, record):
        plain(path, tensors, data, record)
        written.append(len(list(Path(path).parent.glob("last-*"))))

    monkeypatch.setattr(checkpoint, "save", counted)
    curves = train.train(trial)
    assert max(written) == 3  # the limit and the one just written
    names = sorted(file.name for file in trial.folder.iterdir())
    assert [name for name in names if name.startswith("task")] == [
        f"task{position}.safetensors" for position in range(3)
    ]
    assert len([name for name in names if name.startswith("last-")]) == 2
    assert train.train(trial) == curves
    train.run_trial(trial)
    assert {file.name[:4] for file in trial.folder.iterdir()} == {"task"}


def test_the_curves_of_a_finished_trial_are_read(means):
    trial = Trial(means, "means", 0)
    parts = [train.train(trial, positions=number) for number in (1, 2, 3)]
    train.run_trial(trial)
    Means.log = []
    assert [train.train(trial, positions=number) for number in (1, 2, 3)] == parts
    assert train.train(trial) == parts[-1]
    assert Means.log == []


def test_training_goes_on_from_the_last_checkpoint_that_is_whole(means):
    trial = Trial(means, "means", 0)
    train.train(trial, positions=2)
    rows = train.train(trial)
    for last in sorted(trial.folder.glob("last-*"))[1:]:
        last.write_bytes(last.read_bytes()[:-10])
    assert train.train(trial) == rows


# resume


class Stop(Exception):
    """A run that ends in the middle."""


def stopping(monkeypatch, owner, name, call, after=False):
    """Make call number ``call`` of ``owner.name`` raise :class:`Stop`; count all calls."""
    calls, plain = [], getattr(owner, name)

    def stopped(*arguments, **options):
        calls.append(name)
        if len(calls) == call and not after:
            raise Stop
        result = plain(*arguments, **options)
        if len(calls) == call:
            raise Stop
        return result

    monkeypatch.setattr(owner, name, stopped)
    return calls


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Result files of undisturbed runs, by method."""
    made = {}

    def get(method):
        if method not in made:
            home = tmp_path_factory.mktemp("unbroken")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LTGATE_HOME", str(home))
                train.run_trial(Trial(PARAMS, method, 0))
            made[method] = rows_on_disk(home)
            assert len(made[method]) == 1
        return made[method]

    return get


@pytest.mark.parametrize(
    ("method", "call"),
    [
        *(("lt_gate", call) for call in (1, 7, 8, 12)),
        *(("sequential", call) for call in (6, 9)),
        *(("joint", call) for call in (5, 10)),
        *(("lt_gate_published", call) for call in (6, 11)),
    ],
)
def test_resume_after_a_stop_at_any_batch(method, call, unbroken, home, monkeypatch):
    expected = unbroken(method)
    with monkeypatch.context() as patch:
        stopping(patch, SpikingLearner, "learn", call)
        with pytest.raises(Stop):
            train.run_trial(Trial(PARAMS, method, 0))
    assert rows_on_disk(home) == {}
    calls = stopping(monkeypatch, SpikingLearner, "learn", 0)
    train.run_trial(Trial(PARAMS, method, 0))
    assert rows_on_disk(home) == expected
    saved = (call - 1) // 2 * 2  # batches before the last checkpoint
    assert len(calls) == (3 if method == "joint" else 2) * BATCHES - saved


@pytest.mark.parametrize(
    ("method", "owner", "name", "call", "after"),
    [
        ("joint", SpikingLearner, "begin_task", 1, True),
        ("joint", SpikingLearner, "begin_task", 2, False),
        ("lt_gate_published", SpikingLearner, "end_task", 1, True),
        ("lt_gate", checkpoint, "save", 2, False),
        ("lt_gate", checkpoint, "save", 3, True),
        ("lt_gate_published", checkpoint, "save", 4, True),
        ("lt_gate", checkpoint, "save", 5, False),
        ("lt_gate", checkpoint, "keep", 3, False),
        ("sequential", SpikingLearner, "scores", 3, False),
        ("lt_gate", train, "evaluate", 1, False),
        ("lt_gate", train, "evaluate", 1, True),
        ("lt_gate", results, "write", 1, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_resume_after_a_stop_anywhere_else(
    method, owner, name, call, after, unbroken, home, monkeypatch
):
    expected = unbroken(method)
    with monkeypatch.context() as patch:
        stopping(patch, owner, name, call, after)
        with pytest.raises(Stop):
            train.run_trial(Trial(PARAMS, method, 0))
    assert rows_on_disk(home) == {}
    train.run_trial(Trial(PARAMS, method, 0))
    assert rows_on_disk(home) == expected


# a real kill

KILLER = """
import os, random, signal, sys, time, traceback
from ltgate import train
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params

params, broken, whole = Params.load(sys.argv[1]), sys.argv[2], sys.argv[3]
learn = SpikingLearner.learn

def attempt(home, kill_at=0, delay=0.0):
    # Train in a forked process; kill it ``delay`` seconds after batch ``kill_at`` has begun.
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        def told(self, *arguments):
            os.write(write, b".")
            return learn(self, *arguments)
        try:
            os.environ["LTGATE_HOME"] = home
            SpikingLearner.learn = told
            train.run(params)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(write)
    for _ in range(kill_at):
        os.read(read, 1)
    if kill_at:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(read)
    return os.waitstatus_to_exitcode(status)

moments = random.Random()
codes = [attempt(broken, moments.randint(1, 6), moments.uniform(0, 0.05)) for _ in range(3)]
codes += [attempt(broken), attempt(whole)]
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_end_with_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.delenv("LTGATE_DATA_CACHE")  # kills hit the making of features, too
    both = PARAMS.with_(methods=["lt_gate", "lt_gate_published"], control=False, checkpoint_every=1)
    (tmp_path / "params.yaml").write_text(both.to_yaml())
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    codes = json.loads(run_python(KILLER, tmp_path / "params.yaml", broken, whole))
    assert codes == [-9, -9, -9, 0, 0]
    found = rows_on_disk(broken)
    assert len(found) == 2
    assert found == rows_on_disk(whole)


# test files

AUDIT = """
import json, os, sys
import h5py

opened = []
sys.addaudithook(
    lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None
)
plain = h5py.File
class File(plain):  # HDF5 opens files by itself, past the audit
    def __init__(self, name, *arguments, **options):
        opened.append(os.fspath(name))
        super().__init__(name, *arguments, **options)
h5py.File = File

from ltgate import tidy, train
from ltgate.data import is_test_file
from ltgate.params import Params

params = Params.load(sys.argv[1])
found = {}
def note(stage):
    found[stage] = sorted({os.path.basename(name) for name in opened if is_test_file(name)})
    found[stage + " trained"] = any(name.endswith("-train.h5") for name in opened)
    opened.clear()

trials = train.trials(params)
for trial in trials:
    train.train(trial)
note("train")
tidy.samples(params)
tidy.splits(params)
learner = trials[0].restore("task0.safetensors")
tidy.membranes(learner, trials[0])
tidy.rates_and_gates(learner, trials[0])
tidy.learned_filters(learner)
tidy.layers(learner)
tidy.confusion(trials[:1])
tidy.embedding(learner, trials[0])
note("tidy")
for trial in trials[:1]:
    train.evaluate(trial)
note("evaluate")
print(json.dumps(found))
"""


def test_nothing_but_the_final_evaluation_opens_a_test_file(tmp_path, monkeypatch):
    monkeypatch.delenv("LTGATE_DATA_CACHE")
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (130, 28, 28), np.uint8), np.arange(130) % 5
    labels = labels.astype(np.uint8)
    source = idx.save(tmp_path, (images[:100], labels[:100]), (images[100:], labels[100:]))
    params = PARAMS.with_(source=source, control=False, methods=methods.names(), epochs=1)
    (tmp_path / "params.yaml").write_text(params.to_yaml())
    found = json.loads(run_python(AUDIT, tmp_path / "params.yaml"))
    assert found["train trained"] and found["tidy trained"]
    assert found["train"] == found["tidy"] == []
    # The proof can fail: the evaluation opens the source's test files and both tasks' own.
    own = [name for name in found["evaluate"] if name.endswith("-test.h5")]
    assert len(own) == 2
    assert set(sources.FILES["test"]) <= set(found["evaluate"])


# numbers and memory


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", ["lt_gate_published", "hlop", "sequential"])
def test_a_number_that_is_none_stops_the_run_with_layer_and_step(method, value, monkeypatch):
    """From the fourth batch on: of the second layer, or of the readout where no layer learns."""
    trial = Trial(PARAMS.with_(methods=[method], readout_rate=1.0), method, 0)
    learn, number = type(trial.learner()).learn, iter(range(1, 99))

    def spoiled(self, images, batch):
        if next(number) == 4:
            if method == "sequential":
                self.readout.weight[0, 0] = value
            else:
                self.network.layers[1].weight[0, 0] = value
        learn(self, images, batch)

    monkeypatch.setattr(type(trial.learner()), "learn", spoiled)
    where = "readout" if method == "sequential" else "conv2"
    told = rf"^{method}, seed 0: fast, batch 4 of {BATCHES}: {where}.*NaN or infinity.*lower"
    with pytest.raises(NotFinite, match=told):
        train.train(trial)


def test_a_trial_that_would_not_fit_is_refused_before_it_begins(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    monkeypatch.setattr(Trial, "learner", lambda self: 1 / 0)
    with pytest.raises(UserError, match=r"^memory: about .*: lower readout_layers"):
        train.train(Trial(PARAMS.with_(readout_layers=["conv1"]), "lt_gate", 0))


def test_a_held_trial_is_waited_for(home, capsys):
    """What another process has finished meanwhile is not done again."""
    trial = Trial(PARAMS, "lt_gate", 0)
    outcome = []
    with trial.hold():
        thread = threading.Thread(target=lambda: outcome.append(train.run_trial(trial)))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and "waiting for process" in capsys.readouterr().err
        rows = [train.row(trial, "test", "class", 0, "all", "task_told", 1.0)]
        results.write(home / "runs" / "tiny", trial.key, rows)
    thread.join(30)
    assert outcome == [None] and not trial.folder.exists()
