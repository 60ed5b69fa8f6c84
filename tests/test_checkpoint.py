"""Checkpoints: what is written comes back; bad files are named; nothing is left half written."""

import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ltgate import checkpoint
from ltgate.errors import UserError

TENSORS = {
    "weights": torch.arange(12.0).view(3, 4),
    "double": torch.tensor([1 / 3], dtype=torch.float64),
    "counts": torch.tensor([[1, 2]], dtype=torch.int32),
    "flags": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 5),
}


def generator_state():
    return np.random.default_rng(3).bit_generator.state


PLAIN = {
    "rows": [{"task": "fast", "value": 0.1 + 0.2, "step": 7}, {"task": "größer", "value": 1e-300}],
    "at": {"position": 1, "done": 0},
    "generator": generator_state(),  # holds integers of 128 bits
    "nothing": None,
    "list": [1, 2.5, "three", True],
}


@pytest.fixture
def path(tmp_path):
    """A file in a folder that does not exist yet."""
    return tmp_path / "deeper" / "last.safetensors"


def test_round_trip(path):
    checkpoint.save(path, TENSORS, PLAIN)
    tensors, plain = checkpoint.load(path)
    assert plain == PLAIN
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    random = np.random.default_rng()
    random.bit_generator.state = plain["generator"]
    assert random.random() == np.random.default_rng(3).random()


def test_any_layout_of_memory(path):
    tensor = torch.arange(12.0).view(3, 4)
    odd = {"turned": tensor.T, "every second": tensor[:, ::2], "repeated": tensor[:1].expand(5, 4)}
    odd["learned"] = tensor.clone().requires_grad_()
    checkpoint.save(path, odd, {})
    found = checkpoint.load(path)[0]
    for name, expected in odd.items():
        assert torch.equal(found[name], expected)
        assert not found[name].requires_grad


# bad files


def bad(path, kind):
    checkpoint.save(path, TENSORS, PLAIN)
    whole = path.read_bytes()
    contents = {
        "empty": b"",
        "short": whole[:5],
        "half the header": whole[:60],
        "half": whole[: len(whole) // 2],
        "one byte less": whole[:-1],
        "one byte more": whole + b"\0",
        "garbage": bytes(range(256)) * 40,
        "text": b"hello\n",
        "pickle": pickle.dumps(TENSORS),
    }
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind.endswith("metadata"):
        other = {"ltgate": "{not json"} if kind == "other metadata" else None
        save_file({"a": torch.zeros(1)}, path, metadata=other)
    elif kind != "missing":
        path.write_bytes(contents[kind])


@pytest.mark.parametrize(
    "kind",
    ["empty", "short", "half the header", "half", "one byte less", "one byte more", "garbage",
     "text", "pickle", "missing", "folder", "no metadata", "other metadata"],
)  # fmt: skip
def test_a_bad_file_is_named_in_one_line_and_not_done(path, kind):
    bad(path, kind)
    with pytest.raises(UserError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert ("delete it" in str(error.value)) == (kind != "missing")
    assert checkpoint.kept(path) is None


def test_pickled_code_is_never_run(path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(path) + "-harm",)

    path.parent.mkdir()
    for write in (lambda: path.write_bytes(pickle.dumps(Harm())), lambda: torch.save(Harm(), path)):
        write()
        with pytest.raises(UserError, match="cannot be read"):
            checkpoint.load(path)
    assert not os.path.exists(str(path) + "-harm")
    pickle.loads(pickle.dumps(Harm()))  # the proof can fail
    assert os.path.exists(str(path) + "-harm")


# limit


def written(folder, *names):
    for age, name in enumerate(names):
        file = folder / name
        file.write_text("")
        os.utime(file, ns=(10**18 + age, 10**18 + age))


@pytest.mark.parametrize(("limit", "left"), [(1, "b"), (2, "ab"), (3, "abc"), (9, "abc")])
def test_keeps_the_newest_up_to_a_limit(tmp_path, limit, left):
    written(tmp_path, "last-c", "last-a", "last-b", "best", "task0")  # oldest first
    checkpoint.keep(tmp_path, "last-*", limit)
    expected = {"best", "task0", *(f"last-{letter}" for letter in left)}
    assert {file.name for file in tmp_path.iterdir()} == expected


def test_of_equal_age_the_later_name_stays(tmp_path):
    for name in ("last-2", "last-3", "last-1"):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    checkpoint.keep(tmp_path, "last-*", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["last-3"]


def test_a_changed_value_does_not_go_unseen(path):
    checkpoint.save(path, TENSORS, PLAIN)
    sound = path.read_bytes()
    for at in range(len(sound) - sum(t.nbytes for t in TENSORS.values()), len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        with pytest.raises(UserError, match="cannot be read"):
            checkpoint.load(path)


def test_a_checkpoint_of_another_network_is_named_in_one_line(path):
    checkpoint.save(path, TENSORS, PLAIN)

    def take(tensors, plain):
        raise KeyError("network.conv1.weight")

    with pytest.raises(UserError) as caught:
        checkpoint.restore(path, take)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert checkpoint.restore(path, lambda tensors, plain: len(tensors)) == len(TENSORS)
