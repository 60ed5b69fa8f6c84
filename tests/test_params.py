"""Parameters: what is refused, in which words, and what identifies a configuration."""

import math
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import run_python

from ltgate import methods, paths
from ltgate.declare import OneOf
from ltgate.errors import UserError
from ltgate.parameter_files import read
from ltgate.params import Params, from_namespace

FIELDS = Params.model_fields
STREAMS = ("warp_", "scales_", "delayed_", "shd_", "nmnist_")  # parameters of sources of streams
PARAMETER_FILES = sorted(paths.params().glob("*.yaml"))  # the grids below are files of another kind


def refusal(**values: Any) -> str:
    """The message that refuses ``values``: exactly one line."""
    with pytest.raises(UserError) as caught:
        Params(**values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def task(**changes: Any) -> dict[str, Any]:
    base = {"name": "a", "classes": [0], "frame_rate_hz": 100.0, "duration_ms": 100.0}
    return {**base, **changes}


# ------------------------------------------------------------------------------- single values


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_refuses_values_of_other_types(name: str) -> None:
    wrong = {
        int: [1.5, 2.0, True, "3", [1]],
        float: [True, "1.0", [1.0], math.nan, math.inf, -math.inf],
        bool: [0, 1, "true", "yes", 1.0],
        str: [1, 1.0, True, ["auto"]],
    }
    default = FIELDS[name].get_default()
    cases = wrong.get(type(default), [1, 1.0, True, "digits", (0,)])
    for value in (*cases, None, {"a": 1}, object(), 3 + 1j, b"bytes"):
        assert refusal(**{name: value}).startswith(f"{name} = "), value


@pytest.mark.parametrize(
    ("name", "value"),
    [("eta", 1), ("gamma", 0), ("ridge", 3), ("tau_slow_ms", 200), ("weight_scale", 2)],
)
def test_a_whole_number_serves_where_a_number_is_wanted(name: str, value: int) -> None:
    result = getattr(Params(**{name: value}), name)
    assert result == value and type(result) is float


ALIKE = {  # impossible values -> parameters
    (-1,): """
        train_images validation_images test_images calibration_iterations batch_size
        hebbian_images eta_v readout_l2 replay_bytes dsd_pruning chunk_images fan_in
        pairs_of prototype_side
    """,
    (-1, 1025): "workers threads",
    (0, -1): """
        weight_scale threshold calibration_tolerance epochs readout_rate ridge gradient_rate
        gradient_slope head_rate hlop_rate
    """,
    (0,): """
        calibration_batches filter_passes projector_rank prototypes trials_per_gpu
        gradient_batch keep_checkpoints checkpoint_every chip_spread fan_in_groups
    """,
    (0, 1.1): "eta_filters hlop_first hlop_next dsd_start dsd_growth",
    ("", "a\0b"): "timescales grid",
}
OUT_OF_RANGE = {
    **{name: values for values, names in ALIKE.items() for name in names.split()},
    "name": ["", ".", "..", "a/b", "-a", ".hidden", "a b", "a\n", "a" * 101, "a;b", "$(a)"],
    "seeds": [[], [-1], [2**32], [0, 0], [0.0], [True]],
    "methods": [[], ["no_such_method"], ["joint", "joint"], [1]],
    "source": ["", "mnits", "idx:", "idx", "MNIST", "idx:a\0b", "idx:a\nb"],
    "data_folder": ["a\0b", "a\nb"],
    "tasks": [[], [3], [task(), task()], [task(classes=[10])]],
    "output": ["", "xor", "OR", 1],
    "backend": ["", "tpu", 1],
    "validation_fraction": [0, 1, -0.1, 1.1],
    "prefetch": [0, -1, 1025],
    "channels": [[0, 1, 1], [-1, 1, 1], [1.0, 1, 1], [16, 32]],
    "strides": [[0, 1, 1], [1, 2], [1, 2, 2, 2]],
    "hidden": [[0], [-1], [1.0]],
    "tau_fast_ms": [0, -5, 100, 200],
    "tau_slow_ms": [0, -5, 5, 1],
    "target_rate": [0, 1, -0.1],
    "threshold_lowest": [0, -1, 256, 300],
    "threshold_highest": [0, -1, 0.001],
    "eta": [-0.01],
    "trace_decay": [-0.1, 1, 1.1],
    "gamma": [-0.1, 1.1],
    "variance_lambda": [0, 1.1, -1],
    "readout_layers": [[], ["conv4"], ["conv0"], ["dense2"], ["dense", "dense1"], ["conv"]],
    "cluster": ["", "here", "tcp:", "tcp://", "http://host:1", "local "],
    "grid_workers": [-1, 100_001],
    "robustness_trained": [[], [0.0], [-50.0], [50.0, 50.0]],
    "robustness_rates": [[], [0.0], [50.0, -50.0]],
    "device": ["gpu", "cuda:", "cuda:x", ""],
    "curve_points": [0, 10_001],
    "chip_bits": [1, 9],
    "taus_ms": [[0.0], [-1.0], [100.0, 5.0], [5.0, 5.0]],
    "other_rates": [[0.0], [50.0, 50.0]],
    "filter_taus_ms": [[0.0], [5.0, 5.0], [5.0, 10.0, 20.0]],
    **{name: [-1, "x"] for name in FIELDS if name.startswith(STREAMS)},
}
CHOICES = {
    name: typing.get_args(field.annotation)
    for name, field in FIELDS.items()
    if typing.get_origin(field.annotation) is typing.Literal
} | {
    name: list(choice.table)
    for name, field in FIELDS.items()
    for choice in field.metadata
    if isinstance(choice, OneOf) and name not in OUT_OF_RANGE
}
SWITCHES = {name for name in FIELDS if type(FIELDS[name].get_default()) is bool}


def test_every_field_has_impossible_values_below() -> None:
    assert set(OUT_OF_RANGE) == set(FIELDS) - SWITCHES - set(CHOICES)


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_impossible_values_are_refused_by_name(name: str) -> None:
    for value in OUT_OF_RANGE[name]:
        assert name in refusal(**{name: value}), value


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_that_is_not_offered_is_refused_with_those_that_are(name: str) -> None:
    for wrong in ("", "no such choice", CHOICES[name][0].upper()):
        assert (
            refusal(**{name: wrong}) == f"{name} = {wrong!r}: must be {' | '.join(CHOICES[name])}"
        )
    for choice in CHOICES[name]:
        fitting = {"projector": "none", "output": "blend"}
        if choice in ("rate", "own"):  # of one membrane
            fitting["compartments"] = "fast"
        assert getattr(Params(**{**fitting, name: choice}), name) == choice


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "source": ["digits", "mnist", "idx:/some/folder"],
        "device": ["auto", "cpu", "cuda", "cuda:0", "cuda:11"],
        "cluster": ["none", "local", "slurm", "pbs", "sge", "tcp://host:8786", "tls://10.0.0.1:1"],
        "hidden": [[], [4], [4, 4]],
        "gamma": [0, 0.5, 1],
        "methods": [[name] for name in methods.names()],
        "readout_layers": [["conv1"], ["conv3", "dense1"], ["dense"], ["conv2", "dense"]],
    }.items(),
)
def test_possible_values_are_kept(name: str, values: list[Any]) -> None:
    for value in values:
        assert getattr(Params(**{name: value}), name) == value


TASK_MISTAKES = [
    ({"classes": []}, "classes"),
    ({"classes": [0, 0]}, "0 is given twice"),
    ({"classes": [-1]}, "classes[0] = -1"),
    ({"classes": [256]}, "classes[0] = 256"),
    ({"frame_rate_hz": 0}, "frame_rate_hz = 0"),
    ({"frame_rate_hz": math.nan}, "frame_rate_hz = nan"),
    ({"frame_rate_hz": "1e3"}, "this is text"),
    ({"duration_ms": -1}, "duration_ms = -1"),
    ({"name": "a/b"}, "name = 'a/b'"),
    ({"frame_rate": 50.0}, "unknown parameter 'frame_rate', did you mean 'frame_rate_hz'?"),
    ({"duration_ms": 1.0}, "rounds to 0 frames"),
    ({"classes": [10]}, "class 10 of 'a' is not in source 'digits', which has 0 to 9"),
]


@pytest.mark.parametrize(("changes", "expected"), TASK_MISTAKES)
def test_mistakes_in_a_task_are_told(changes: dict[str, Any], expected: str) -> None:
    message = refusal(tasks=[task(**changes)])
    assert expected in message and message.startswith("tasks")


def test_a_missing_value_of_a_task_is_named() -> None:
    incomplete = task()
    del incomplete["duration_ms"]
    message = "tasks[0]: duration_ms: is missing; must be a finite number > 0"
    assert refusal(tasks=[incomplete]) == message


# ------------------------------------------------------------------------------ contradictions


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"tasks": [task(), task(name="b", classes=[0, 1])]},
            "tasks: class 0 is in both 'a' and 'b'; a class belongs to one task, or all tasks "
            "have the same classes",
        ),
        (
            {"tasks": [task(), task(classes=[1])]},
            "tasks: two are named 'a'; names must differ",
        ),
        (
            {"channels": [4, 4], "strides": [1], "readout_layers": ["conv1"]},
            "strides = [1]: has 1 entries but channels = [4, 4] has 2; one stride per convolution",
        ),
        (
            {"tau_fast_ms": 100.0},
            "tau_fast_ms = 100: must be below tau_slow_ms = 100 when compartments is 'dual'",
        ),
        (
            {"channels": [4, 4], "strides": [1, 1], "readout_layers": ["conv3"]},
            "readout_layers = ['conv3']: no layer 'conv3' in this network; "
            "allowed: conv1, conv2, dense1, dense",
        ),
        (
            {"hidden": [], "readout_layers": ["dense"]},
            "readout_layers = ['dense']: no layer 'dense' in this network; "
            "allowed: conv1, conv2, conv3",
        ),
        (
            {"presentation": "pulse", "tasks": [task(duration_ms=0.4, frame_rate_hz=5000.0)]},
            "tasks: duration_ms = 0.4 of 'a' rounds to 0 ms; presentation 'pulse' needs at least 1",
        ),
        (
            {"threshold_lowest": 2.0, "threshold_highest": 1.0},
            "threshold_lowest = 2: must be below threshold_highest = 1",
        ),
        (
            {"readout": "delta"},
            "projector = 'full': is the matrix of readout 'rls'; with readout = 'delta' allowed "
            "are none, rank1, rankk",
        ),
        (
            {"tasks": [task(frame_rate_hz=1e300, duration_ms=1e300)]},
            "tasks[0]: frame_rate_hz = 1e+300 for duration_ms = 1e+300: at most 1,000,000 frames "
            "and ms are allowed",
        ),
    ],
)
def test_contradictions_are_told(values: dict[str, Any], expected: str) -> None:
    assert refusal(**values) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"tau_fast_ms": 100.0, "compartments": "fast"},
        {"presentation": "frame", "tasks": [task(duration_ms=0.4, frame_rate_hz=5000.0)]},
        {"tasks": [task(classes=[200])], "source": "idx:/folder"},
        {"hidden": [], "readout_layers": ["conv3"]},
    ],
)
def test_what_only_looks_like_a_contradiction_is_allowed(values: dict[str, Any]) -> None:
    assert Params(**values).model_dump().items() >= values.items()


# ---------------------------------------------------------------------------- unknown names, text


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("etta", ", did you mean 'eta'?"), ("seed", ", did you mean 'seeds'?"), ("qqqq", "")],
)
def test_an_unknown_name_gets_the_nearest_known_one(misspelt: str, meant: str) -> None:
    assert refusal(**{misspelt: 1}) == f"unknown parameter {misspelt!r}{meant}"


def test_what_else_a_refusal_tells() -> None:
    told = refusal(methods=["lt_gat"])
    assert "'lt_gat' is no method, did you mean 'lt_gate'?; allowed: " in told
    assert "; this is text, write it without quotes" in refusal(epochs="3")
    assert refusal(eta=-1, gamma=2, epochs=0).endswith("(and 2 more)")
    assert len(refusal(seeds=["x"] * 1000)) < 300 and len(refusal(device="x" * 1000)) < 300
    assert "must be a finite number" in refusal(eta=10**400)


@pytest.mark.parametrize("text", ["1e-3", "2E5", "1.5e+5", "1.E2", "+1e0"])
def test_powers_of_ten_are_numbers_and_their_texts_are_kept(text: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"eta: {text}\nname: '1e3'\n")
    params = Params.load(file)
    assert (params.eta, params.name) == (float(text), "1e3")
    file.write_text(params.to_yaml())
    assert Params.load(file) == params
    assert refusal(eta=text).endswith(
        "; this is text, write it without quotes, a power of ten as in 1.0e-3"
    )


# ---------------------------------------------------------------------------------------- files


def test_later_files_and_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("eta: 0.1\ngamma: 0.1\nridge: 0.1\n")
    (tmp_path / "b.yaml").write_text("# only comments and one value\ngamma: 0.2\nridge: 0.2\n")
    (tmp_path / "c.yaml").write_text("")
    p = Params.load(*(tmp_path / f"{name}.yaml" for name in "abc"), ridge=0.3)
    assert (p.eta, p.gamma, p.ridge) == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eta: 0.1\neta: 0.2\n", "line 2: not valid YAML: 'eta' is given twice"),
        ("- eta\n", "must hold 'name: value' lines"),
        ("1: 2\n", "a parameter's name must be text"),
        ("[1, 2]: 3\n", "not valid YAML"),
        ("eta: !!python/object:os.system x\n", "not valid YAML"),
        ("tasks: [{name: a, name: b}]\n", "'name' is given twice"),
        ("etta: 1\n", "unknown parameter 'etta', did you mean 'eta'?"),
        ("eta: \x00\n", "not valid YAML"),
        ("seeds: &a [0, 1]\nchannels: *a\n", "line 2: not valid YAML: aliases are not allowed"),
        ("[" * 5000, "not valid YAML: nested too deeply"),
    ],
)
def test_a_broken_file_is_told_in_one_line(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        Params.load(file)
    assert str(caught.value).startswith(str(file))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.yaml: cannot read .*No such file"):
        Params.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(UserError, match="not UTF-8 text"):
        Params.load(tmp_path / "latin.yaml")


@pytest.mark.parametrize("file", PARAMETER_FILES, ids=lambda file: file.stem)
def test_the_parameter_files_are_valid_and_survive_a_round_trip(file: Path, tmp_path: Path) -> None:
    name = Params.load(file).name
    assert file.stem == name or file.stem.startswith(f"{name}_")  # adds to the same tables
    params = Params.load(file, eta=1e-7, readout_l2=3e20)
    (tmp_path / "copy.yaml").write_text(params.to_yaml())
    copy = Params.load(tmp_path / "copy.yaml")
    assert copy == params and copy.hash == params.hash


# ----------------------------------------------------------------------------------------- hash


def test_the_hash_is_the_same_in_another_process() -> None:
    code = "from ltgate.params import Params; print(Params().hash)"
    assert run_python(code, PYTHONHASHSEED="1").strip() == Params().hash


def test_the_hash_is_what_its_definition_gives() -> None:
    """Worked out from a hand-written text, so that a change of its form does not go unnoticed."""
    import hashlib
    import json

    values = {
        name: value
        for name, value in yaml.safe_load(Params().to_yaml()).items()
        if not (Params.groups[name].compute or Params.groups[name].since)
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert '"eta":0.01,' in text and '"frame_rate_hz":1000.0' in text
    assert Params().hash == hashlib.sha256(text.encode()).hexdigest()[:12]


CHANGED = {
    "source": "mnist",
    "tasks": [task()],
    "channels": [1, 2, 3],
    "strides": [1, 1, 1],
    "hidden": [3],
    "readout_layers": ["conv2"],
    "name": "other",
    "output": "or",
    "backend": "portable",
    "seeds": [5],
    "methods": ["joint"],
    "data_folder": "/elsewhere",
    "grid": "other",
    "timescales": "other",
    "cluster": "tcp://host:8786",
    "robustness_trained": [20.0],
    "robustness_rates": [20.0],
    "chip_bits": 4,
    "device": "cpu",
    "taus_ms": [5.0, 20.0],
    "other_rates": [20.0],
    "filter_taus_ms": [20.0],
    "pairs_of": 3,
}


def changed(name: str) -> Any:
    """An allowed value of a parameter that is not its default."""
    default = FIELDS[name].get_default()
    if name in CHANGED:
        return CHANGED[name]
    if name in CHOICES:
        return next(choice for choice in CHOICES[name] if choice != default)
    if name in SWITCHES:
        return not default
    return default + 1 if isinstance(default, int) else default / 2


COMPUTE = {
    "name", "seeds", "methods", "control", "data_folder", "workers", "prefetch", "device",
    "backend", "threads", "chunk_images", "keep_checkpoints", "checkpoint_every", "bench",
    "robustness_trained", "robustness_rates", "keep_features", "chip_input", "chip_spread",
    "grid", "timescales", "cluster", "grid_workers", "trials_per_gpu",
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_the_hash_follows_what_can_change_a_result_and_nothing_else(name: str) -> None:
    nine = [task(classes=list(range(9)))]  # pairs of three
    base = Params(projector="rank1", output="blend", tasks=nine)  # contradicts no choice
    other = base.with_(**{name: changed(name)})
    assert getattr(other, name) != getattr(base, name)
    assert (other.hash == base.hash) == (name in COMPUTE)


# ---------------------------------------------------------------------------------- interface


def test_with_validates_and_leaves_the_original() -> None:
    p = Params()
    assert p.with_(eta=0.5).eta == 0.5 and p.eta == 0.01
    with pytest.raises(UserError, match="etta"):
        p.with_(etta=1)
    with pytest.raises(UserError, match="strides"):
        p.with_(channels=[1])
    with pytest.raises(ValueError, match="frozen"):
        p.eta = 1.0
    with pytest.raises(ValueError, match="frozen"):
        Params().eta = 1.0


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_has_a_help_line_with_what_is_allowed(name: str) -> None:
    line = Params.help()[name]
    assert len(FIELDS[name].description or "") > 8
    assert ". Allowed: " in line and ". Default: " in line and "\n" not in line
    if name.endswith("_ms"):
        assert "(ms)" in line
    if name == "tau_fast_ms":
        told = "time constant of the fast compartment (ms). Allowed: a finite number > 0."
        assert line == f"{told} Default: 5.0."


# ------------------------------------------------------------------------------------- notebooks


def test_a_namespace_gives_its_parameters_and_nothing_else() -> None:
    namespace = {
        "eta": 0.5,
        "tasks": [task()],
        "math": math,
        "Path": Path,
        "read": read,
        "_hidden": 1,
        "__name__": "__main__",
        "In": ["", "eta = 0.5"],
        "Out": {},
        "figure": object(),
    }
    assert from_namespace(namespace) == Params(eta=0.5, tasks=[task()])


def test_a_notebook_takes_a_file_with_changes_or_what_papermill_gives() -> None:
    first = {"parameters": "quick", "changes": {"eta": 0.5}}
    assert from_namespace(dict(first)) == Params.load("quick", eta=0.5)
    given = {"parameters": "quick", "changes": {}, "name": "mine", "eta": 0.25}
    assert from_namespace(given) == Params(name="mine", eta=0.25)  # no size of the file's
    with pytest.raises(UserError, match=r"^changes = .*: with eta given, put it there$"):
        from_namespace({**first, "eta": 0.25})
    with pytest.raises(UserError, match="no such parameter file"):
        from_namespace({"parameters": "qick", "changes": {}})


def test_the_cell_may_be_run_again_after_later_cells() -> None:
    namespace: dict[str, Any] = {"eta": 0.5}
    from_namespace(namespace)
    namespace.update(total=3, eta=0.25)
    assert from_namespace(namespace).eta == 0.25
    namespace["eta"] = object()
    with pytest.raises(UserError, match=r"^eta = <object"):
        from_namespace(namespace)
    with pytest.raises(UserError, match=r"unknown parameter 'etta', did you mean 'eta'\?; mend it"):
        from_namespace({"etta": 0.5})
