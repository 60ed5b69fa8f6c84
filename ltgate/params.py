"""Every parameter of an experiment in one validated model.

A parameter file is flat YAML; later files and keyword overrides win. Whatever is wrong (an unknown
name, a wrong type, an impossible value, a contradiction) is told in one line as a `UserError`.
"""

import difflib
import hashlib
import json
import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import annotated_types as bounds
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from ltgate.errors import UserError
from ltgate.paths import parameter_file

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0)]
Label = Annotated[int, Field(ge=0, le=255)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")]
Cluster = Annotated[str, Field(pattern=r"^(none|local|slurm|pbs|sge|(tcp|tls)://\S+)$")]

_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "text of letters, digits, '-', '_' and '.', at most 100",
    r"^(auto|cpu|cuda(:[0-9]+)?)$": "auto | cpu | cuda | cuda:N",
    r"^(none|local|slurm|pbs|sge|(tcp|tls)://\S+)$": "none | local | slurm | pbs | sge | "
    "tcp://HOST:PORT",
}

MOST_FRAMES = 1_000_000  # of a sample, and its most milliseconds
GRID_ONLY = {"axes", "base", "set", "variants"}  # what a grid file has and a parameter file has not
LARGEST_FILE = 1 << 16  # bytes of a parameter file
DEEPEST = 20  # lists and mappings inside each other in it

# Parameters that change how a result is computed, or which results, but never a result's value.
_COMPUTE = {"compute": True}


def _without_repeats(values: list[Any]) -> list[Any]:
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{value!r} is given twice")
        seen.add(value)
    return values


class Strict(BaseModel):
    """Frozen and strict: no text for numbers, no NaN or infinity, no unknown names."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(_one_line(type(self), error)) from None


class TaskSpec(Strict):
    """A temporal task: some classes of the images, shown at one frame rate for one duration."""

    name: Name = Field(description="short name, used in tables and file names")
    classes: list[Label] = Field(
        min_length=1, description="classes of the image source, no repeats"
    )
    frame_rate_hz: float = Field(gt=0, description="frames per second (Hz)")
    duration_ms: float = Field(gt=0, description="how long an image is shown (ms)")

    @property
    def frames(self) -> int:
        """Number of frames of a sample, ``round(duration_ms * frame_rate_hz / 1000)``."""
        return round(self.duration_ms * self.frame_rate_hz / 1000)

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[int]) -> list[int]:
        return _without_repeats(classes)

    @model_validator(mode="after")
    def _not_endless(self) -> "TaskSpec":
        longest = max(self.duration_ms, self.duration_ms * self.frame_rate_hz / 1000)
        if longest > MOST_FRAMES:
            raise ValueError(
                f"frame_rate_hz = {self.frame_rate_hz:g} for duration_ms = {self.duration_ms:g}: "
                f"at most {MOST_FRAMES:,} frames and ms are allowed"
            )
        return self


FAST = TaskSpec(name="fast", classes=[0, 1, 2, 3, 4], frame_rate_hz=1000.0, duration_ms=200.0)
SLOW = TaskSpec(name="slow", classes=[5, 6, 7, 8, 9], frame_rate_hz=50.0, duration_ms=400.0)


class Params(Strict):
    """All parameters of an experiment; `Params.help` tells what each is and allows."""

    name: Name = Field(
        "smoke", description="name of the output folders", json_schema_extra=_COMPUTE
    )
    seeds: list[Seed] = Field(
        [0], min_length=1, description="one repetition per seed", json_schema_extra=_COMPUTE
    )
    methods: list[str] = Field(
        ["lt_gate", "random_features", "sequential", "joint", "lt_gate_published"],
        min_length=1,
        description="learning methods to compare, by the names of ltgate.methods",
        json_schema_extra=_COMPUTE,
    )
    control: bool = Field(
        True,
        description="also run all tasks at the first task's frame rate and duration",
        json_schema_extra=_COMPUTE,
    )

    # data
    source: str = Field("digits", description="images: digits (offline), mnist, or idx:FOLDER")
    data_folder: str = Field(
        "",
        description="folder that already holds the MNIST files; empty = environment variable "
        "LTGATE_DATA, else download",
        json_schema_extra=_COMPUTE,
    )
    tasks: list[TaskSpec] = Field([FAST, SLOW], min_length=1, description="tasks in learning order")
    train_images: int = Field(0, ge=0, description="training images per task; 0 = all")
    validation_images: int = Field(0, ge=0, description="validation images per task; 0 = all")
    test_images: int = Field(0, ge=0, description="test images per task; 0 = all")
    validation_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the training images held back for validation"
    )
    presentation: Literal["frame", "pulse", "hold", "as_coded"] = Field(
        "frame", description="how frames become time steps"
    )
    workers: int = Field(
        0, ge=0, le=1024, description="loader processes; 0 = none", json_schema_extra=_COMPUTE
    )
    prefetch: int = Field(
        2,
        ge=1,
        le=1024,
        description="batches each loader process keeps ready",
        json_schema_extra=_COMPUTE,
    )

    # network
    channels: list[Count] = Field(
        [16, 32, 64], min_length=1, description="output channels of each convolution"
    )
    strides: list[Count] = Field([1, 2, 2], min_length=1, description="stride of each convolution")
    hidden: list[Count] = Field([256], description="neurons of each dense layer")
    compartments: Literal["dual", "fast", "slow"] = Field(
        "dual", description="membrane compartments of a neuron"
    )
    tau_fast_ms: float = Field(5.0, gt=0, description="time constant of the fast compartment (ms)")
    tau_slow_ms: float = Field(
        100.0, gt=0, description="time constant of the slow compartment (ms)"
    )
    output: Name = Field(
        "or",
        description="spike of a neuron: or (either compartment's), blend (of the blended "
        "membranes), or another of ltgate.neurons.OUTPUTS",
    )
    current: Literal["raw", "normalised"] = Field(
        "raw", description="input current as it is, or scaled by 1 - exp(-dt/tau)"
    )
    reset: Literal["subtract", "zero"] = Field("subtract", description="membrane after a spike")
    balanced: bool = Field(
        True, description="initial filters without their mean and of unit length"
    )
    weight_scale: float = Field(1.0, gt=0, description="factor on the initial weights")
    threshold: float = Field(0.5, gt=0, description="firing threshold before calibration")
    target_rate: float = Field(
        0.05, gt=0, lt=1, description="spikes per neuron and step that calibration aims at"
    )
    threshold_scope: Literal["layer", "compartment", "channel"] = Field(
        "channel", description="what shares one calibrated threshold"
    )
    threshold_lowest: float = Field(0.0039, gt=0, description="lower bound of calibration")
    threshold_highest: float = Field(256.0, gt=0, description="upper bound of calibration")
    calibration_batches: int = Field(2, ge=1, description="batches per calibration iteration")
    calibration_iterations: int = Field(
        10, ge=0, description="most calibration iterations; 0 = none"
    )
    calibration_tolerance: float = Field(
        0.1, gt=0, description="relative distance from the target rate that is good enough"
    )

    # learning
    epochs: int = Field(1, ge=1, description="passes over each task")
    batch_size: int = Field(
        32,
        ge=0,
        description="images per batch; 0 = as many as fit on this machine, up to 256: that number "
        "then counts as given",
    )
    filters: Literal["random", "first", "always"] = Field(
        "first", description="filters stay random, learn before the first task's pass, or always"
    )
    eta_filters: float = Field(
        1.0, gt=0, le=1, description="rate of competitive learning; 1 = mean of a filter's wins"
    )
    filter_passes: int = Field(12, ge=1, description="passes of competitive learning per layer")
    eta: float = Field(0.01, ge=0, description="rate of the published Hebbian update")
    trace_decay: float = Field(0.8, ge=0, lt=1, description="presynaptic trace kept per step")
    hebbian_images: int = Field(
        400, ge=0, description="images of the first task that the filters learn from; 0 = all"
    )
    gate: Literal["select", "blend", "fixed"] = Field(
        "select", description="gate: hard, masks updates; soft, in the neuron; or fixed at gamma"
    )
    gamma: float = Field(
        0.5, ge=0, le=1, description="fixed or initial weight of the fast membrane"
    )
    variance_lambda: float = Field(
        0.001, gt=0, le=1, description="rate of the gate's running variance per step"
    )
    projector: Literal["none", "rank1", "rankk", "full"] = Field(
        "full", description="directions that earlier tasks use and updates avoid"
    )
    projector_rank: int = Field(20, ge=1, description="rank of the projector rankk")
    eta_v: float = Field(0.001, ge=0, description="learning rate of the projector's vectors")
    readout_layers: list[str] = Field(
        ["conv1/4", "conv2/2", "conv3"],
        min_length=1,
        description="layers the readout sees: conv1, ..., dense1, ...; dense = the last dense; "
        "conv1/4 = summed over patches of 4 x 4",
    )
    normalise_counts: bool = Field(
        True, description="divide each layer's spike counts by their L2 norm for the readout"
    )
    root_counts: bool = Field(
        False, description="take the square root of spike counts for the readout, before the norm"
    )
    readout: Literal["delta", "delta_current", "rls", "prototypes"] = Field(
        "rls",
        description="rule: delta, delta on the current task's classes, recursive least squares, "
        "or prototypes (strictly local)",
    )
    readout_rate: float = Field(0.001, gt=0, description="learning rate of the delta rules")
    readout_l2: float = Field(0.0001, ge=0, description="weight decay of the delta rules")
    curve_points: int = Field(
        5,
        ge=1,
        le=10_000,
        description="points of the learning curve per task, on validation images",
    )
    ridge: float = Field(0.1, gt=0, description="ridge penalty of recursive least squares")
    prototypes: int = Field(400, ge=1, description="neurons per class of the readout prototypes")
    replay_bytes: int = Field(
        0, ge=0, description="memory of the method replay (bytes); 0 = as much as readout rls keeps"
    )

    # timescale robustness
    robustness_trained: list[Rate] = Field(
        [50.0, 1000.0],
        min_length=1,
        description="frame rates that a learner of its own is trained at (Hz)",
        json_schema_extra=_COMPUTE,
    )
    robustness_rates: list[Rate] = Field(
        [12.5, 50.0, 200.0, 250.0, 1000.0, 4000.0],
        min_length=1,
        description="frame rates that each of them is tested at (Hz)",
        json_schema_extra=_COMPUTE,
    )

    # methods trained by surrogate gradients
    gradient_rate: float = Field(0.002, gt=0, description="Adam rate of the layers' weights")
    gradient_slope: float = Field(10.0, gt=0, description="steepness of the surrogate derivative")
    gradient_batch: int = Field(8, ge=1, description="images per step; a batch is split into such")
    head_rate: float = Field(0.05, gt=0, description="Adam rate of the readout's weights")
    head_classes: Literal["all", "current"] = Field(
        "all", description="classes that compete in the loss: all, or the current task's"
    )
    hlop_first: float = Field(
        0.2, gt=0, le=1, description="subspace of the first task, share of a layer's inputs"
    )
    hlop_next: float = Field(
        0.1, gt=0, le=1, description="subspace of each later task, share of a layer's inputs"
    )
    hlop_rate: float = Field(1.0, gt=0, description="learning rate of the subspace neurons")
    dsd_start: float = Field(0.3, gt=0, le=1, description="share of units of the first task")
    dsd_growth: float = Field(0.15, gt=0, le=1, description="share of units of each later task")
    dsd_pruning: int = Field(30, ge=0, description="pruning rounds per task; 0 = none")

    # grid
    grid: str = Field(
        "published",
        min_length=1,
        description="grid file: a name in params/grids, or a path",
        json_schema_extra=_COMPUTE,
    )
    cluster: Cluster = Field(
        "local",
        description="where a grid runs: in this process, in worker processes, in a cluster's "
        "jobs, or at a scheduler's address",
        json_schema_extra=_COMPUTE,
    )
    grid_workers: int = Field(
        0,
        ge=0,
        le=100_000,
        description="worker processes or cluster jobs of a grid; 0 = one per core, or per GPU slot",
        json_schema_extra=_COMPUTE,
    )
    trials_per_gpu: int = Field(
        1, ge=1, description="trials of a grid that share a GPU", json_schema_extra=_COMPUTE
    )

    # chip
    chip_aware: bool = Field(
        False, description="train with the weights and decays that Loihi 2 has (chip_bits, 12 bits)"
    )
    chip_bits: int = Field(8, ge=2, le=8, description="bits of a weight on Loihi 2")
    chip_input: Literal["direct", "differences"] = Field(
        "differences",
        description="pixels sent to the chip: every frame, or changes of a current held there",
        json_schema_extra=_COMPUTE,
    )
    chip_spread: int = Field(
        1,
        ge=1,
        description="how many times the cores it needs a convolution is spread over",
        json_schema_extra=_COMPUTE,
    )

    # compute
    device: Device = Field("auto", description="where to compute", json_schema_extra=_COMPUTE)
    backend: Name = Field(
        "auto",
        description="simulator of the network: auto, portable, event, gpu, or another of "
        "ltgate.backends.BACKENDS",
        json_schema_extra=_COMPUTE,
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads; 0 = all", json_schema_extra=_COMPUTE
    )
    chunk_images: int = Field(
        0,
        ge=0,
        description="images of a frozen network simulated at once; 0 = what fits, up to 256",
        json_schema_extra=_COMPUTE,
    )
    bench: Literal["smoke", "full"] = Field(
        "smoke",
        description="performance: a few batches and sizes, or whole epochs and every setting",
        json_schema_extra=_COMPUTE,
    )
    keep_features: bool = Field(
        True, description="keep spike counts in data/features", json_schema_extra=_COMPUTE
    )
    keep_checkpoints: int = Field(
        2, ge=1, description="checkpoints kept per method and seed", json_schema_extra=_COMPUTE
    )
    checkpoint_every: int = Field(
        200, ge=1, description="batches between checkpoints", json_schema_extra=_COMPUTE
    )

    @field_validator("seeds", "robustness_trained", "robustness_rates")
    @classmethod
    def _distinct_numbers(cls, values: list[Any]) -> list[Any]:
        return _without_repeats(values)

    @field_validator("source", "data_folder", "grid")
    @classmethod
    def _path(cls, text: str) -> str:
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
            raise ValueError("holds a control character, which no path may")
        return text

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: list[str]) -> list[str]:
        try:  # here, because methods import parameters
            from ltgate.methods import names
        except ImportError:
            return _without_repeats(methods)
        for method in methods:
            if method not in names():
                hint = _nearest(method, names())
                raise ValueError(f"{method!r} is no method{hint}; allowed: {', '.join(names())}")
        return _without_repeats(methods)

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if source not in ("digits", "mnist"):
            from ltgate.data import sources  # here, because task files import parameters

            if not sources.known(source):
                raise ValueError(f"allowed: {sources.allowed()}")
        return source

    @field_validator("output")
    @classmethod
    def _known_output(cls, output: str) -> str:
        if output not in ("or", "blend"):
            from ltgate.neurons import OUTPUTS  # here, because it loads PyTorch

            if output not in OUTPUTS:
                raise ValueError(f"must be {' | '.join(OUTPUTS)}")
        return output

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, backend: str) -> str:
        if backend not in ("auto", "portable", "event", "gpu"):
            from ltgate.backends import BACKENDS  # here, because it loads PyTorch

            if backend not in BACKENDS:
                raise ValueError(f"must be auto | {' | '.join(BACKENDS)}")
        return backend

    @model_validator(mode="after")
    def _no_contradictions(self) -> "Params":
        owner: dict[int, str] = {}
        names = [task.name for task in self.tasks]
        for task in self.tasks:
            if names.count(task.name) > 1:
                raise ValueError(f"tasks: two are named {task.name!r}; names must differ")
            for label in task.classes:
                if label in owner:
                    raise ValueError(
                        f"tasks: class {label} is in both {owner[label]!r} and {task.name!r}; "
                        "a class belongs to one task"
                    )
                if label > 9 and self.source in ("digits", "mnist"):
                    raise ValueError(
                        f"tasks: class {label} of {task.name!r} is not in source "
                        f"{self.source!r}, which has 0 to 9"
                    )
                owner[label] = task.name
            if task.frames < 1:
                raise ValueError(
                    f"tasks: {task.name!r} has no frame: frame_rate_hz = {task.frame_rate_hz:g} "
                    f"for duration_ms = {task.duration_ms:g} rounds to 0 frames, at least 1 needed"
                )
            if self.presentation in ("pulse", "hold") and round(task.duration_ms) < 1:
                raise ValueError(
                    f"tasks: duration_ms = {task.duration_ms:g} of {task.name!r} rounds to 0 ms; "
                    f"presentation {self.presentation!r} needs at least 1"
                )
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"strides = {_shown(self.strides)}: has {len(self.strides)} entries but channels = "
                f"{_shown(self.channels)} has {len(self.channels)}; one stride per convolution"
            )
        if self.compartments == "dual" and self.tau_fast_ms >= self.tau_slow_ms:
            raise ValueError(
                f"tau_fast_ms = {self.tau_fast_ms:g}: must be below tau_slow_ms = "
                f"{self.tau_slow_ms:g} when compartments is 'dual'"
            )
        if self.threshold_lowest >= self.threshold_highest:
            raise ValueError(
                f"threshold_lowest = {self.threshold_lowest:g}: must be below threshold_highest = "
                f"{self.threshold_highest:g}"
            )
        if self.projector == "full" and self.readout in ("delta", "delta_current"):
            raise ValueError(
                f"projector = 'full': is the matrix of readout 'rls'; with readout = "
                f"{self.readout!r} allowed are none, rank1, rankk"
            )
        layers = self.layers()
        for view in self.readout_layers:
            layer, _, side = view.partition("/")
            if "/" in view and not (layer.startswith("conv") and re.fullmatch("[1-9][0-9]?", side)):
                raise ValueError(
                    f"readout_layers = {_shown(self.readout_layers)}: {view!r} is no view; patches "
                    "are written conv1/4 (side in positions)"
                )
            if layer not in layers and not (layer == "dense" and self.hidden):
                allowed = layers + (["dense"] if self.hidden else [])
                raise ValueError(
                    f"readout_layers = {_shown(self.readout_layers)}: no layer {layer!r} in this "
                    f"network; allowed: {', '.join(allowed)}"
                )
        named = [layers[-1] if layer == "dense" else layer for layer in self.readout_layers]
        if len(set(named)) < len(named):
            raise ValueError(
                f"readout_layers = {_shown(self.readout_layers)}: a layer is named twice"
            )
        return self

    @model_validator(mode="after")
    def _automatic_batch_size(self) -> "Params":
        """A result depends on the size of batches: the hash and every record must tell it."""
        if self.batch_size == 0:
            from ltgate.memory import batch_size  # here, because it loads PyTorch

            self.__dict__["batch_size"] = batch_size(self)  # the model is frozen
        return self

    @classmethod
    def load(cls, *files: str | Path, **overrides: Any) -> "Params":
        """Parameters of the YAML files ``files`` (later ones win), then of ``overrides``.

        A file is given by its path, or by its bare name in ``params/``. Raises `UserError`, one
        line, for a missing or malformed file and for any wrong parameter.
        """
        values: dict[str, Any] = {}
        for file in files:
            given = read(parameter_file(file))
            if wrong := sorted(GRID_ONLY & given.keys()):
                raise UserError(
                    f"{file}: is a grid file (it has {wrong[0]!r}); `ltgate grid` runs it"
                )
            values.update(given)
        try:
            return cls(**{**values, **overrides})
        except UserError as error:
            source = ", ".join(map(str, files))
            raise UserError(f"{source}: {error}" if source else str(error)) from None

    def with_(self, **changes: Any) -> "Params":
        """A copy with ``changes``, validated anew."""
        return type(self)(**{**self.model_dump(), **changes})

    def layers(self) -> list[str]:
        """Names of the spiking layers, first to last: conv1, ..., dense1, ..."""
        convolutions = [f"conv{i}" for i in range(1, len(self.channels) + 1)]
        return convolutions + [f"dense{i}" for i in range(1, len(self.hidden) + 1)]

    @property
    def hash(self) -> str:
        """12 hexadecimal digits that identify the configuration.

        The same on every machine; parameters that cannot change a result (`is_compute`) do not
        enter it.
        """
        values = {k: v for k, v in self.model_dump().items() if not is_compute(k)}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @classmethod
    def help(cls) -> dict[str, str]:
        """One line per parameter: what it is, its unit, what is allowed and the default."""
        return {name: _help_line(field) for name, field in cls.model_fields.items()}

    def to_yaml(self) -> str:
        """All parameters as YAML that `Params.load` reads back to an equal value."""
        return yaml.safe_dump(
            self.model_dump(), sort_keys=False, default_flow_style=None, width=100
        )


def is_compute(name: str) -> bool:
    """Whether parameter ``name`` cannot change the value of any result, so that no hash has it."""
    return bool((Params.model_fields[name].json_schema_extra or {}).get("compute"))


def read(path: str | Path) -> dict[str, Any]:
    """The names and values a YAML parameter file gives, not yet validated.

    Raises `UserError` for a missing file, broken YAML, a repeated name, or anything but a mapping.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise UserError(f"{path}: too large; a parameter file has at most {LARGEST_FILE} bytes")
        values = parse(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: cannot read this parameter file (not UTF-8 text)") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this parameter file ({error.strerror})") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}:{error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold 'name: value' lines, not {_shown(values)}")
    for name in values:
        if not isinstance(name, str):
            raise UserError(f"{path}: {name!r}: a parameter's name must be text")
    return values


def parse(text: str) -> Any:
    """The value of a YAML text: plain data only, each name once, no aliases.

    Raises `ValueError`, one line that begins with the place.
    """
    try:
        return yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or "characters that YAML does not allow"
    except (ValueError, TypeError, OverflowError) as error:  # a date or a number that is none
        line, problem = "", str(error).split("\n")[0][:200]
    raise ValueError(f"{line} not valid YAML: {problem}")


def from_namespace(namespace: dict[str, Any]) -> Params:
    """Validated parameters from a notebook's ``globals()``.

    Every plain value (number, text, truth value, list, mapping, None) whose name does not start
    with an underscore counts as a parameter. An unknown name raises `UserError`; once a call has
    succeeded, names the notebook defines further down are no longer mistaken for parameters, so
    the cell may be run again.
    """
    plain = (bool, int, float, str, list, tuple, dict, set, types.NoneType)
    ignored = (types.ModuleType, types.FunctionType, type)
    values: dict[str, Any] = {}
    for name, value in namespace.items():
        if name.startswith("_") or name in ("In", "Out") or isinstance(value, ignored):
            continue
        known = name in Params.model_fields
        if known or (isinstance(value, plain) and "_ltgate_params_read" not in namespace):
            values[name] = value
    try:
        result = Params(**values)
    except UserError as error:
        stale = str(error).startswith("unknown")  # a name once set stays in the kernel
        raise UserError(f"{error}{'; mend it and restart the kernel' * stale}") from None
    namespace["_ltgate_params_read"] = True
    return result


class _Plain(yaml.SafeLoader):
    """YAML's safe loader, refusing a name that is given twice, and aliases.

    Through aliases a file of a few lines can stand for more values than any memory holds.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "nested too deeply", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _one_line(model: type[Strict], error: ValidationError) -> str:
    """The first mistake of ``error`` in one line, and how many more there are."""
    mistakes = error.errors(include_url=False)
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    # An unknown name first: it is often the misspelt form of one that is also missing.
    first = min(mistakes, key=lambda mistake: mistake["type"] != "extra_forbidden")
    location = first["loc"]
    cause = first.get("ctx", {}).get("error")
    if not location:  # a contradiction, already told in full
        return f"{cause}{more}"
    name = str(location[0]) + "".join(f"[{part!r}]" for part in location[1:])
    if first["type"] == "extra_forbidden":
        return f"unknown parameter {name!r}{_nearest(name, model.model_fields)}{more}"
    allowed = _allowed_by(model.model_fields[location[0]])
    if first["type"] == "missing":
        return f"{name}: is missing; must be {allowed}{more}"
    if isinstance(cause, UserError):  # from a model inside this one
        return f"{name}: {cause}{more}"
    if cause is not None:
        return f"{name} = {_shown(first['input'])}: {cause}{more}"
    hint = _number_hint(first["input"]) if first["type"] in ("float_type", "int_type") else ""
    return f"{name} = {_shown(first['input'])}: must be {allowed}{hint}{more}"


def _number_hint(value: Any) -> str:
    """What to write for a number that arrived as text: YAML wants a point and a signed exponent."""
    match = isinstance(value, str) and re.fullmatch(
        r"\s*([+-]?\d+)(\.\d*)?(?:[eE]([+-]?)(\d+))?\s*", value
    )
    if not match:
        return ""
    whole, fraction, sign, exponent = match.groups()
    if exponent is None:
        return f"; this is text, write {value.strip()} without quotes"
    fraction = fraction if fraction and len(fraction) > 1 else ".0"
    return f"; this is text, write {whole}{fraction}e{sign or '+'}{exponent}"


def _help_line(field: FieldInfo) -> str:
    return f"{field.description}. Allowed: {_allowed_by(field)}. Default: {_default(field)}."


def _default(field: FieldInfo) -> str:
    value = field.get_default()
    if isinstance(value, list):
        value = [v.model_dump() if isinstance(v, BaseModel) else v for v in value]
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.split("\n")[0]


def _allowed_by(field: FieldInfo) -> str:
    return _allowed(field.annotation, field.metadata)


def _allowed(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """In words: the values that an annotation and its bounds allow."""
    if typing.get_origin(annotation) is Annotated:
        annotation, *inner = typing.get_args(annotation)
        metadata = [m for i in inner for m in (i.metadata if isinstance(i, FieldInfo) else [i])]
    if typing.get_origin(annotation) is Literal:
        return " | ".join(typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        least = next((m.min_length for m in metadata if isinstance(m, bounds.MinLen)), 0)
        return f"a list of {least} or more, each {_allowed(typing.get_args(annotation)[0])}"
    if typing.get_origin(annotation) is dict:
        return "a mapping"
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        parts = (part for part in typing.get_args(annotation) if part is not types.NoneType)
        return " or ".join(_allowed(part) for part in parts)
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return f"a mapping with {', '.join(annotation.model_fields)}"
    for pattern in (getattr(m, "pattern", None) for m in metadata):
        if pattern:
            return _PATTERNS[pattern]
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    words[Any] = "anything"
    limits = []
    for bound, attribute, sign in (
        (bounds.Gt, "gt", ">"),
        (bounds.Ge, "ge", ">="),
        (bounds.Lt, "lt", "<"),
        (bounds.Le, "le", "<="),
    ):
        limits += [f"{sign} {getattr(m, attribute)}" for m in metadata if isinstance(m, bound)]
    return " ".join([words[annotation], " and ".join(limits)]).strip()
