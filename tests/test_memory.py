"""Memory: estimates beside what is there, and what is said when it is too little."""

import numpy as np
import pytest

from ltgate import memory
from ltgate.data import idx
from ltgate.errors import UserError
from ltgate.methods import create
from ltgate.methods.base import SpikingLearner
from ltgate.params import Params

SMALL = Params(channels=[4, 8, 8], hidden=[16], device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden": []},
        {"strides": [2, 1, 2], "compartments": "fast"},
        {"hidden": [7, 5]},
        None,
        {"taus_ms": [5.0, 20.0, 100.0]},
        {"taus_ms": [20.0]},
    ],
)
def test_shapes_and_weights_are_those_of_the_network(changes, tmp_path):
    if changes is None:  # images of three channels
        pool = np.zeros((4, 3, 9, 7), np.uint8), np.zeros(4, np.uint8)
        changes = {"source": idx.save(tmp_path, pool, pool)}
    params = SMALL.with_(**changes, readout_layers=["conv3"])
    network = SpikingLearner(params, np.random.default_rng(0)).network
    assert memory.shapes(params) == {layer.name: layer.out_shape for layer in network.layers}
    weights = sum(layer.weight.nbytes for layer in network.layers)
    part = next(p for p in memory.parts(params, [1], 20) if p.name == "weights")
    assert part.size == 3 * weights


@pytest.mark.parametrize("method, most", [("lt_gate", 8), ("lt_gate_local", 1)])
def test_the_readout_needs_at_least_its_state(method, most):
    learner = create(method, SMALL, np.random.default_rng(0))
    state = sum(x.nbytes for x in learner.readout.buffers())
    seen = learner.sees(learner.params.readout_layers)
    part = next(p for p in memory.parts(learner.params, [1], 20, seen) if "readout" in p.name)
    assert state <= part.size <= most * state


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"channels": [64, 128, 512], "readout_layers": ["conv1"]}, "lower readout_layers"),
        ({"hidden": [10**7]}, "weights takes .* lower channels or hidden"),
        ({"readout_layers": ["conv3"], "chunk_images": 10**9}, "forward pass .* chunk_images"),
        (
            {"filters": "always", "projector": "none", "readout": "delta", "batch_size": 10**9},
            "forward pass .* lower batch_size",
        ),
        ({"readout": "prototypes", "prototypes": 10**8}, "readout prototypes .* or prototypes"),
    ],
)
def test_what_does_not_fit_is_told_with_what_to_lower(changes, told, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 8 * 10**9)
    memory.check(memory.parts(SMALL, [1000, 200], 200))
    with pytest.raises(
        UserError, match=rf"^memory: about .* GB are needed, 8.0 GB are free; .*{told}"
    ):
        memory.check(memory.parts(SMALL.with_(**changes), [1000, 200], 200))


def test_the_number_simulated_at_once_follows_the_free_memory(monkeypatch):
    for free, least, most in ((10**12, 256, 256), (10**7, 2, 255), (1, 1, 1)):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        assert least <= memory.at_once(SMALL) <= most
    assert memory.at_once(SMALL.with_(chunk_images=7)) == 7


def test_an_automatic_batch_size_is_a_number_that_the_memory_allows(monkeypatch):
    image = memory.per_image(SMALL)
    for total, expected in ((10**15, 256), (4 * 100 * image, 64), (1, 1)):
        monkeypatch.setattr(memory, "installed", lambda total=total: total)
        params = SMALL.with_(batch_size=0)
        assert params.batch_size == expected
        assert params.hash == SMALL.with_(batch_size=expected).hash
        assert Params(**params.model_dump()) == params


def test_a_containers_limit_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    without = memory.installed()
    for name, size in (("max", 1000), ("current", 400)):
        (tmp_path / f"memory.{name}").write_text(f"{size}\n")
    assert (memory.installed(), memory.available()) == (1000, 600)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.installed() == without
