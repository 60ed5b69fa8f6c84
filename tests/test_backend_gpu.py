"""The GPU path on Triton's interpreter against the network written out step by step.

Triton decides at import whether to interpret, so the interpreter runs in a process of its own.
"""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import torch
from test_backend_cpu import OPTIONS, clock

from ltgate import backends
from ltgate.backends import Activity, portable
from ltgate.errors import UserError
from ltgate.network import create
from ltgate.neurons import Dynamics

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def network(random, dynamics, channels, strides, hidden, side):
    made = create(dynamics, channels, strides, hidden, random, (1, side, side), weight_scale=3.0)
    for layer in made.layers:
        layer.threshold = torch.from_numpy(random.uniform(0.1, 0.8, layer.threshold.shape)).float()
        layer.threshold *= 1 if dynamics.current == "raw" else 0.15
        layer.gate = torch.from_numpy(random.uniform(0, 1, layer.gate.shape)).float()
    return made


def pictures(random, count, side):
    return random.integers(0, 256, (count, side, side)).astype(np.uint8)


def forward(constants, *arguments, **options) -> Activity:
    """``gpu.forward`` with some of the module's constants replaced."""
    from ltgate.backends import gpu

    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(gpu, name, value)
        return gpu.forward(*arguments, **options)


def arithmetic(wrong: tuple[str, ...]) -> str:
    """What ``exact_arithmetic`` finds where some arithmetics cut a sum's last bits off."""
    from ltgate.backends import gpu

    honest = gpu._currents

    def cut(inputs, weight, stride, arithmetic):
        if arithmetic == "float64":
            return honest(inputs.double(), weight.double(), stride, "as they are").float()
        found = honest(inputs, weight, stride, arithmetic)
        return found * (1 - 2**-11) if arithmetic in wrong else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "_currents", cut)
        gpu.exact_arithmetic.cache_clear()
        found = gpu.exact_arithmetic((3, 5, 5, 2), (4, 2, 3, 3), 2, torch.device("cpu"))
        assert found == gpu.exact_arithmetic((3, 2, 2, 3), (4, 12), 0, torch.device("cpu"))
    return found


def replayed(calls) -> tuple[int, list[Activity]]:
    """Captures made and results, where a replay runs the pass again instead of CUDA's graph."""
    from ltgate.backends import gpu

    plain, captures = gpu._pass, []

    class Graph(gpu._Graph):
        def _capture(self, options):
            def replay():
                again = plain(self.network, *self.values, options)
                for field in ("counts", "crossings", "updates", "rasters"):
                    for name, value in getattr(activity, field).items():
                        value.copy_(getattr(again, field)[name])

            activity = plain(self.network, *self.values, options)
            activity.updates |= {name: x.clone() for name, x in activity.updates.items()}
            captures.append(self)
            return replay, activity

    def captured(network, *rest):
        return gpu._captured(network, list(rest[:-1]), rest[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "_Graph", Graph)
        patch.setattr(gpu, "_pass", captured)
        patch.setattr(gpu, "GRAPHS", 2)
        found = [gpu.forward(*arguments, **options) for arguments, options in calls]
        assert len(gpu._graphs) <= 2
        gpu._graphs.clear()
    return len(captures), found


def chunk(l2_bytes, *arguments) -> int:
    """``_chunk`` on a device with such a cache."""
    from ltgate.backends import gpu

    with pytest.MonkeyPatch.context() as patch:
        properties = SimpleNamespace(L2_cache_size=l2_bytes)
        patch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        return gpu._chunk(*arguments, torch.device("cuda"))


def chosen(*arguments) -> str:
    return backends.choose(*arguments).NAME


def _call(work: bytes) -> bytes:
    torch.set_num_threads(1)
    function, arguments, options = pickle.loads(work)
    return pickle.dumps(function(*arguments, **options))


@pytest.fixture(scope="module")
def interpret():
    """Call a function of this module where Triton interprets its kernels."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:

        def call(function, *arguments, **options):
            work = pickle.dumps((function, arguments, options))
            return pickle.loads(pool.submit(_call, work).result())

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            call(chosen, "gpu", "cpu")  # starts the process
        yield call


def assert_is_reference(interpret, made, images, steps, decay, constants=(), **options):
    activity = interpret(
        forward, dict(constants), made, torch.from_numpy(images), steps,
        trace_decay=decay, raster=tuple(made.names), **options,
    )  # fmt: skip
    reference.check(activity, made, images, steps, decay)
    return activity


def lively(activity):
    return all(0.01 < raster.float().mean() < 0.99 for raster in activity.rasters.values())


# against the reference


@pytest.mark.parametrize(("tau", "output", "current", "reset"), OPTIONS)
def test_every_option_spike_for_spike(interpret, tau, output, current, reset):
    random = np.random.default_rng(7)
    made = network(random, Dynamics(tau, output, current, reset), [3, 4], [1, 2], [6], 7)
    images, steps = pictures(random, 2, 7), clock(6, 2.0, random.integers(0, 3, 6))
    decay = np.array([0.8, 0.3], np.float32)[: len(tau)]
    activity = assert_is_reference(interpret, made, images, steps, decay, chunk_steps=4)
    assert lively(activity)  # else equality would show nothing
    assert all(update.abs().max() > 0 for update in activity.updates.values())


@pytest.mark.parametrize(
    ("channels", "strides", "hidden", "side"),
    [([1], [3], [], 7), ([2, 5, 3], [2, 1, 1], [4, 3], 6), ([], [], [5, 2], 4)],
)
def test_other_networks_spike_for_spike(interpret, channels, strides, hidden, side):
    random = np.random.default_rng(2)
    made = network(random, Dynamics(), channels, strides, hidden, side)
    images, steps = pictures(random, 3, side), clock(6, drive=random.integers(0, 3, 6))
    decay = np.array([0.9, 0.2], np.float32)
    assert lively(assert_is_reference(interpret, made, images, steps, decay))


@pytest.mark.parametrize("chunk", [1, 3])  # of 4 steps
def test_small_tiles_and_chunks_of_any_size(interpret, chunk):
    random = np.random.default_rng(4)
    made = network(random, Dynamics(), [3], [2], [3], 5)  # 9 positions in tiles of 4
    made.layers[0].threshold[:, 0] = -0.1  # always fires, but not beyond the image
    images, steps = pictures(random, 2, 5), clock(4, drive=random.integers(0, 3, 4))
    decay, constants = np.array([0.8, 0.5], np.float32), {"TILE": 8, "COLUMNS": 2}
    assert_is_reference(interpret, made, images, steps, decay, constants, chunk_steps=chunk)


def test_equal_decays_share_a_trace(interpret):
    random = np.random.default_rng(9)
    made = network(random, Dynamics(), [3, 2], [1, 2], [4], 5)
    images, steps = pictures(random, 2, 5), clock(6, drive=random.integers(0, 3, 6))
    activity = assert_is_reference(interpret, made, images, steps, np.full(2, 0.8, np.float32))
    for update in activity.updates.values():
        assert torch.equal(update[0], update[1])


# arithmetic


def test_mixed_precision_is_exact_where_currents_have_eleven_bits(interpret):
    random = np.random.default_rng(1)
    made = network(random, Dynamics(), [3, 4], [1, 2], [5], 5)
    for layer in made.layers:
        layer.weight = (layer.weight * 8).round() / 8
    images, steps = pictures(random, 2, 5), clock(8, drive=random.integers(0, 3, 8))
    decay = np.array([0.5, 0.25], np.float32)
    assert lively(assert_is_reference(interpret, made, images, steps, decay, mixed=True))


@pytest.mark.parametrize(
    ("wrong", "found"), [((), "tf32"), (("tf32",), "ieee"), (("tf32", "ieee"), "float64")]
)
def test_arithmetic_that_is_not_exact_is_not_used(interpret, wrong, found):
    assert interpret(arithmetic, wrong) == found


def test_float64_gives_the_same_spikes(interpret):
    random = np.random.default_rng(3)
    made = network(random, Dynamics(), [3, 4], [1, 2], [5], 5)
    images, decay = pictures(random, 2, 5), np.array([0.8, 0.5], np.float32)
    constants = {"exact_arithmetic": _float64}
    assert lively(assert_is_reference(interpret, made, images, clock(6), decay, constants))


def _float64(*_) -> str:
    return "float64"


@pytest.mark.parametrize(
    ("first", "compartments", "blend"), [(True, 2, False), (False, 2, True), (False, 1, False)]
)
def test_compiled_kernels_round_every_product(monkeypatch, tmp_path, first, compartments, blend):
    # for a GPU of compute capability 9.0; needs none
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from ltgate.backends.gpu import scan

    constants = {
        "FIRST": first, "COMPARTMENTS": compartments, "BLEND": blend, "SUBTRACT": True,
        "ROWS": 16, "COLUMNS": 32, "STAGES": 4,
    }  # fmt: skip
    whole = ["steps", "size", "positions", "channels"]
    integer = dict.fromkeys(["counts", "crossings"], "*i32") | dict.fromkeys(whole, "i32")
    separate = compiled(scan, constants, integer, False)
    assert "mul" in separate and "add" in separate and "fma" not in separate
    assert "cp.async" in separate  # loads run ahead
    assert "fma" in compiled(scan, constants, integer, True)  # so its absence shows something


def compiled(kernel, constants, integer, fusion) -> str:
    """The PTX of a kernel; arguments are pointers to float32 unless ``integer`` says otherwise."""
    import triton
    from triton.backends.compiler import GPUTarget

    names = kernel.arg_names
    kinds = dict.fromkeys(constants, "constexpr") | integer
    source = triton.compiler.ASTSource(
        kernel,
        {name: kinds.get(name, "*fp32") for name in names},
        {(names.index(name),): value for name, value in constants.items()},
    )
    options = {"enable_fp_fusion": fusion}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


# choice


def test_chosen_by_name_and_device(interpret, monkeypatch):
    assert interpret(chosen, "gpu", "cpu") == "gpu"
    assert interpret(chosen, "auto", "cpu") != "gpu"  # interpreted only when asked for
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match="backend: 'gpu' cannot run on 'cpu'"):
        backends.choose("gpu", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen("auto", "cuda") == chosen("gpu", "cuda:1") == "gpu"
    assert chosen("portable", "cuda") == "portable"


# launches


def test_a_captured_pass_reads_all_its_values_anew(interpret):
    random = np.random.default_rng(5)
    calls = []
    for steps in (3, 3, 2, 1, 3):
        made = network(random, Dynamics(output="blend"), [3], [2], [3], 4)
        images = torch.from_numpy(pictures(random, 2, 4))
        timing = clock(steps, random.uniform(1, 20), random.integers(1, 3, steps))
        decay = random.uniform(0.1, 0.9, 2).astype(np.float32)
        calls.append(((made, images, timing), {"trace_decay": decay, "raster": ("conv1",)}))
    captures, activities = interpret(replayed, calls)
    assert captures == 4  # the second call replays the first one's graph; the last one's is gone
    for (arguments, options), found in zip(calls, activities, strict=True):
        expected = portable.forward(*arguments, **options)
        assert torch.equal(found.rasters["conv1"], expected.rasters["conv1"])
        for name, counts in expected.counts.items():
            assert torch.equal(found.counts[name], counts)
            assert torch.equal(found.crossings[name], expected.crossings[name])
            torch.testing.assert_close(found.updates[name], expected.updates[name])


def test_chunks_fit_the_cache(interpret):
    made = network(np.random.default_rng(0), Dynamics(), [16, 32, 64], [1, 2, 2], [256], 28)
    # conv2 reads 12,544 spikes and makes 2 x 6,272 currents of 4 bytes: 3.2 MB a step at B = 32
    assert interpret(chunk, 50 << 20, made, 32, 200, 4) == 9
    assert interpret(chunk, 50 << 20, made, 32, 200, 2) == 19
    assert interpret(chunk, 50 << 20, made, 32, 6, 4) == 6  # no more steps
    assert interpret(chunk, 50 << 20, made, 256, 200, 4) == 16  # does not fit anyway


# on a GPU


def on_gpu(made):
    there = made.clone()
    for layer in there.layers:
        for field in ("weight", "threshold", "gate"):
            setattr(layer, field, getattr(layer, field).cuda())
    return there


@needs_gpu
@pytest.mark.parametrize(("tau", "output", "current", "reset"), OPTIONS)
@pytest.mark.parametrize("graphs", [True, False])
def test_gpu_spike_for_spike(tau, output, current, reset, graphs):
    random = np.random.default_rng(7)
    made = network(random, Dynamics(tau, output, current, reset), [16, 32], [1, 2], [64], 28)
    there, decay = on_gpu(made), np.array([0.8, 0.3], np.float32)[: len(tau)]
    options = {"trace_decay": decay, "raster": tuple(made.names)}
    for _ in range(2):  # a graph is captured, then replayed on other values
        images, steps = torch.from_numpy(pictures(random, 5, 28)), clock(21, 2.0)
        made.layers[1].weight, steps = made.layers[1].weight.flip(1), replace(steps, dt_ms=3.0)
        there.layers[1].weight = made.layers[1].weight.cuda()
        here = portable.forward(made, images, steps, **options)
        found = forward({}, there, images, steps, cuda_graphs=graphs, **options)
        for name in made.names:
            assert torch.equal(found.rasters[name], here.rasters[name])
            assert torch.equal(found.counts[name].cpu(), here.counts[name])
            assert torch.equal(found.crossings[name].cpu(), here.crossings[name])
            scale = max(1.0, float(here.updates[name].abs().max()))
            torch.testing.assert_close(
                found.updates[name].cpu(), here.updates[name], rtol=0, atol=1e-5 * scale
            )


@needs_gpu
def test_gpu_mixed_precision_is_close():
    random = np.random.default_rng(7)
    made = on_gpu(network(random, Dynamics(), [16, 32], [1, 2], [64], 28))
    images = torch.from_numpy(pictures(random, 5, 28))
    exact, mixed = (forward({}, made, images, clock(50), mixed=x) for x in (False, True))
    for name in made.names:
        difference = (exact.counts[name] - mixed.counts[name]).abs().float().mean()
        assert difference < 0.02 * 50
