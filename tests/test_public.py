"""The public names: light to import, documented, typed; the example that ``help`` opens with."""

import inspect
import textwrap

import numpy as np
import pytest

import ltgate


@pytest.mark.parametrize("name", ltgate.__all__)
def test_every_public_name_is_documented_and_typed(name: str) -> None:
    value = getattr(ltgate, name)
    assert value.__doc__
    if not inspect.isclass(value):
        signature = inspect.signature(value)
        assert signature.return_annotation is not signature.empty
        assert all(p.annotation is not p.empty for p in signature.parameters.values())


def test_there_are_a_dozen_names_and_no_others() -> None:
    assert 10 <= len(ltgate.__all__) <= 13
    assert set(ltgate.__all__) <= set(dir(ltgate))
    with pytest.raises(AttributeError, match="'ltgate' has no attribute 'fitt'"):
        _ = ltgate.fitt


def test_the_names_for_type_checkers_are_those_that_there_are() -> None:
    source = inspect.getsource(ltgate)
    block = source.partition("if TYPE_CHECKING:\n")[2].partition("\n\n")[0]
    told = {}
    exec(textwrap.dedent(block), told)
    for name in ltgate.__all__:
        assert told[name] is getattr(ltgate, name)


def test_the_example_that_help_opens_with(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTGATE_HOME", str(tmp_path))
    monkeypatch.setenv("LTGATE_PROGRESS", "off")
    monkeypatch.chdir(tmp_path)
    example = textwrap.dedent(ltgate.__doc__.partition("::\n")[2].partition("Names here")[0])
    found = {}
    exec(example, found)
    R, network = found["R"], found["network"]
    assert R.shape == (2, 2) and np.isnan(R[0, 1]) and (np.diag(R) > 0).all()
    assert len(found["figure"].axes) == 2  # one panel, one colour bar
    assert set(found["spikes"].counts) == set(network.names)
    assert (tmp_path / "first.nir").exists()


def test_a_network_prints_its_layers_not_its_tensors() -> None:
    dynamics = ltgate.Dynamics()
    network = ltgate.make_network(dynamics, [4, 6], [1, 2], [5], np.random.default_rng(0))
    assert repr(network).splitlines() == [
        "Network",
        "  conv1: 1 x 28 x 28 -> 4 x 28 x 28, stride 1",
        "  conv2: 4 x 28 x 28 -> 6 x 14 x 14, stride 2",
        "  dense1: 6 x 14 x 14 -> 5 x 1 x 1",
        f"  {dynamics!r}",
    ]
