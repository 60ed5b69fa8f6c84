"""Lava against the twin, spike by spike; sessions that end. Skipped where Lava is not installed."""

import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import loihi_reference as reference
import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from ltgate.fixed_point import MEMBRANE_LIMIT
from ltgate.loihi import lava_backend, twin
from ltgate.loihi.lava_backend import shim
from ltgate.loihi.quantnet import QuantNetwork

lava_needed = pytest.mark.skipif(not lava_backend.available(), reason=lava_backend.missing())
pytestmark = pytest.mark.filterwarnings("ignore")  # Lava's own

SHARED_MEMORY = Path("/dev/shm")


def python(code: str) -> subprocess.CompletedProcess:
    """A Python of its own runs ``code``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )


def leftovers() -> set[str]:
    """Shared memory and processes that belong to this process."""
    import psutil

    found = {p.name for p in SHARED_MEMORY.glob("psm_*")} if SHARED_MEMORY.exists() else set()
    return found | {str(p.pid) for p in psutil.Process().children(recursive=True)
                    if "resource_tracker" not in " ".join(p.cmdline())}  # fmt: skip


@pytest.fixture
def nothing_left():
    before = leftovers()
    yield
    until = time.monotonic() + 5
    while leftovers() - before and time.monotonic() < until:
        time.sleep(0.05)
    assert not leftovers() - before


def run(net, images, drive, **options):
    from ltgate.loihi.lava_backend import run as lava

    return lava.forward(net, images, drive, seconds=60, **options)


def assert_same(net: QuantNetwork, images, drive, **options) -> int:
    """Lava's spikes are the twin's, in every layer and step; returns how many."""
    names = tuple(net.names)
    ours = twin.forward(net, images, drive, raster=names)
    theirs = run(net, images, drive, raster=names, **options)
    for name in names:
        np.testing.assert_array_equal(theirs.rasters[name].numpy(), ours.rasters[name].numpy())
        assert torch.equal(theirs.counts[name], ours.counts[name])
    return sum(int(counts.sum()) for counts in ours.counts.values())


def case(seed: int, samples: int = 3, **options):
    random = np.random.default_rng(seed)
    net = reference.draw(random, **options)
    return net, reference.images(random, net, samples), reference.drive(random, 12)


@lava_needed
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_the_twin_over_random_configurations(seed: int, nothing_left) -> None:
    """Three samples, two side by side and one after them: with resets in between. The rest of the
    200 configurations is in tests/soak_loihi.py."""
    assert assert_same(*case(seed), batch=2) > 0


@lava_needed
@pytest.mark.parametrize("differences", [False, True])
def test_streams_are_fed_frame_by_frame(differences: bool, nothing_left) -> None:
    """With silence between frames; three samples, two side by side and one after them."""
    random = np.random.default_rng(4)
    net = reference.draw(random, channels=2)
    shown = reference.streamed(random, net, 3, 12)
    assert assert_same(net, *shown, batch=2, differences=differences) > 50


@lava_needed
def test_held_input_of_differences_gives_the_same_spikes(nothing_left) -> None:
    net, images, drive = case(1)
    assert assert_same(net, images, drive, batch=2, differences=True) > 0


@lava_needed
@pytest.mark.parametrize("seed", [2, 7])
def test_stock_conv_and_dense_are_the_oracle(seed: int, tmp_path, nothing_left) -> None:
    """Sums over signed graded input, layer by layer."""
    random = np.random.default_rng(seed)
    for layer in reference.draw(random, limit=MEMBRANE_LIMIT, side=6).layers:
        channels, height, width = layer.in_shape
        own, stock = sums(layer, random.integers(-9, 10, (4, height, width, channels)), tmp_path)
        np.testing.assert_array_equal(own, stock)
        assert stock.any()


def sums(layer, images, folder: Path) -> list[np.ndarray]:
    """What our synapses and Lava's own add up, [images, height, width, K x out] each.

    Lava's Conv is a true convolution: its kernel is turned around. Its Dense drops the last bit of
    weights of mixed sign: twice the weight, half the scale.
    """
    from lava.proc.conv.process import Conv
    from lava.proc.dense.process import Dense
    from lava.utils.weightutils import SignMode

    from ltgate.loihi.lava_backend.processes.spiking import CountSink, EventConv, FrameSource
    from ltgate.loihi.lava_backend.run import kernel
    from ltgate.loihi.lava_backend.session import Session

    weight = kernel(layer)
    inner, out = images.shape[1:], (*layer.out_shape[1:], weight.shape[-1])
    own = EventConv(weight=weight, stride=max(layer.stride, 1), padding=layer.padding,
                    in_shape=(1, *inner), out_shape=(1, *out))  # fmt: skip
    source = FrameSource(images=images, drive=np.ones(1, int))
    source.s_out.reshape((1, *inner)).connect(own.s_in)
    if layer.is_conv:
        flipped = np.ascontiguousarray(weight[::-1, ::-1].transpose(3, 0, 1, 2))
        stock = Conv(weight=flipped, input_shape=inner, stride=layer.stride,
                     padding=layer.padding, num_message_bits=24)  # fmt: skip
        source.s_out.connect(stock.s_in)
    else:
        stock = Dense(weights=2 * weight.reshape(-1, weight.shape[-1]).T, weight_exp=-1,
                      sign_mode=SignMode.MIXED, num_message_bits=24)  # fmt: skip
        source.s_out.flatten().connect(stock.s_in)
    files = [folder / f"{name}.npy" for name in ("own", "stock")]
    for path, port in zip(files, (own.a_out, stock.a_out), strict=True):
        np.save(path, np.zeros((len(images), *out), np.int32))
        sink = CountSink(path=str(path), shape=out, interval=1, offset=1)
        (port if port.shape == out else port.reshape(out)).connect(sink.s_in)
    with Session(source, 60) as session:
        session.run(len(images) + 1)
    return [np.load(path) for path in files]


@lava_needed
def test_a_model_that_raises_is_told_and_nothing_is_left(nothing_left) -> None:
    net, images, drive = case(0)
    net.layers[0].gate = net.layers[0].gate[:-1]  # one too few: the neuron's model fails
    from ltgate.loihi.lava_backend.session import LavaFailed

    start = time.monotonic()
    with pytest.raises(LavaFailed, match="Error"):
        run(net, images, drive)
    assert time.monotonic() - start < 20


@lava_needed
def test_a_deadline_ends_it(nothing_left) -> None:
    from ltgate.loihi.lava_backend import run as lava
    from ltgate.loihi.lava_backend.session import LavaFailed

    net, images, _ = case(0)
    with pytest.raises(LavaFailed, match="did not end within"):
        lava.forward(net, images, np.ones(10**6, int), seconds=6)


@lava_needed
def test_an_interrupt_ends_it(nothing_left, monkeypatch) -> None:
    from ltgate.loihi.lava_backend import session

    def interrupted(self, failed=False):
        raise KeyboardInterrupt

    net, images, drive = case(0)
    real = session.Session.run

    def run_then_interrupt(self, steps):
        monkeypatch.setattr(session.Session, "_check", interrupted)
        real(self, steps)

    monkeypatch.setattr(session.Session, "run", run_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(net, images, drive)


@lava_needed
def test_an_interrupt_while_processes_start_is_not_lost() -> None:
    """Python swallows what is raised in the hooks of a fork: the soak saw runs go on."""
    from ltgate.loihi.lava_backend import session

    # a shell's background jobs, and so tests run in one, begin with interrupts ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with session._interrupts_wait():
            signal.raise_signal(signal.SIGINT)
            steps.append("the block ends first")
        steps.append("not reached")
    assert steps == ["the block ends first"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)  # as before the block


@lava_needed
def test_killed_with_its_parent(tmp_path) -> None:
    """The processes of a session do not outlive the process that began it."""
    program = tmp_path / "long.py"
    program.write_text(
        "import sys, numpy as np\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import loihi_reference as reference\n"
        "from ltgate.loihi.lava_backend import run\n"
        "if __name__ == '__main__':\n"
        "    random = np.random.default_rng(0)\n"
        "    net = reference.draw(random)\n"
        "    print('start', flush=True)\n"
        "    run.forward(net, reference.images(random, net, 1), np.ones(10**7, int))\n"
    )
    import psutil

    child = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    child.stdout.readline()
    own, until, actors = psutil.Process(child.pid), time.monotonic() + 120, []
    while len(actors) < 5 and time.monotonic() < until:
        time.sleep(0.2)
        actors = own.children(recursive=True)
    child.kill()
    child.wait()
    child.stdout.close()
    assert len(actors) >= 5
    _, alive = psutil.wait_procs(actors, timeout=10)
    assert not [p for p in alive if "resource_tracker" not in " ".join(p.cmdline())]


def test_without_lava_it_is_one_clear_line() -> None:
    code = (
        "import sys; sys.modules['lava'] = None\n"
        "from ltgate.loihi import hardware, lava_backend\n"
        "assert not lava_backend.available() and not hardware.installed()\n"
        "from ltgate.loihi.lava_backend import run\n"
        "run.forward(None, None, None)\n"
    )
    done = python(code)
    last = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(r"ltgate.errors.UserError: Lava cannot be imported \(Mod.*it", last), last
    assert "twin, mapping and estimate work without it" in last


@lava_needed
def test_a_start_method_that_is_set_already_does_not_stop_it() -> None:
    code = (
        "import multiprocessing; multiprocessing.set_start_method('spawn'); "
        "from ltgate.loihi import lava_backend; lava_backend.require(); "
        "assert multiprocessing.get_start_method() == 'spawn'"
    )
    assert python(code).returncode == 0


@lava_needed
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_program_that_starts_processes_otherwise_runs_it(method: str, nothing_left) -> None:
    """Lava forks (spawned, it hangs on its own Python too); forkserver is Python 3.14's default."""
    with shim.start_method(method):
        assert assert_same(*case(1), batch=2) > 0
        assert multiprocessing.get_start_method() == method


@lava_needed
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_that_knows_lava_alone_imports_it_too(method: str) -> None:
    """Unpickling Runtime imports Lava's compiler, and nothing else of this library."""
    from lava.magma.runtime.runtime import Runtime

    child = multiprocessing.get_context(method).Process(target=issubclass, args=(Runtime, object))
    child.start()
    child.join()
    assert child.exitcode == 0


def test_importing_the_library_does_not_import_lava() -> None:
    code = (
        "import sys, ltgate, ltgate.loihi.deploy, ltgate.loihi.mapping, ltgate.loihi.estimate, "
        "ltgate.loihi.lava_backend; sys.exit(any(m.split('.')[0] == 'lava' for m in sys.modules))"
    )
    assert python(code).returncode == 0


UNFULFILLED = {  # what Lava's metadata asks for and has not; the tests that show it does no harm
    "python<3.11,>=3.10": ["test_a_child_that_knows_lava_alone_imports_it_too",
                           "test_equal_to_the_twin_over_random_configurations"],
    "numpy<2.0.0,>=1.24.4": ["test_equal_to_the_twin_over_random_configurations",
                             "test_stock_conv_and_dense_are_the_oracle"],
    "networkx<=2.8.7": ["test_equal_to_the_twin_over_random_configurations"],
    "asteval<0.10.0,>=0.9.31": ["test_the_chips_learning_rule_in_lava_is_the_one_written"],
}  # fmt: skip


@lava_needed
def test_what_lava_asks_for_in_vain_is_known_and_tested() -> None:
    """All that ``pip check`` says of Lava; a requirement that is not installed is an error."""
    found = metadata.metadata("lava-nc")
    asked = [*map(Requirement, found.get_all("Requires-Dist"))]
    asked.append(Requirement(f"python{found['Requires-Python']}"))
    have = {r.name: metadata.version(r.name) for r in asked if r.name != "python"}
    have["python"] = platform.python_version()
    assert {str(r) for r in asked if have[r.name] not in r.specifier} == set(UNFULFILLED)
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_loihi_*.py"))
    assert all(f"\ndef {name}(" in tests for names in UNFULFILLED.values() for name in names)
