"""What a grid is: a YAML file, and the configurations that follow from it.

========== ===================================================================================
name       output folders ``runs/<name>``, ``figures/<name>``; default: the file's name
base       parameter file that everything starts from, beside the grid file
preset     method whose preset is laid over the base (for variants of that method)
set        parameters laid over both; ``control`` may also be an override of some variants
seeds      default: the base's
methods    default: the base's
axes       parameter -> list of values; or any label -> {value: {parameter: value, ...}}, for
           values that set several parameters
variants   {name: {parameter: value, ...}}: one axis called ``variant``
measure    ``validation``: what selection needs, test images stay closed; ``test``: the final
           evaluation of every configuration
retries    how often a failed trial is tried again
options    of the cluster (Slurm, PBS, SGE): queue, cores, memory, walltime, and what else
           :data:`ltgate.grid.parameters.OPTIONS` has; numbers, or words without spaces
========== ===================================================================================

A configuration is the base and its overrides, identified by the hash that its parameters have.
Every value is validated by itself, the parameters as a whole when a trial begins, so that ten
thousand configurations are listed in seconds.
"""

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from ltgate import methods, paths, train
from ltgate.declare import Name, Seed, Strict, Whole
from ltgate.errors import UserError
from ltgate.grid.parameters import OPTIONS
from ltgate.parameter_files import read
from ltgate.params import GRID_ONLY, Params

LARGEST = 1_000_000  # configurations of a grid


class GridFile(Strict):
    """The fields of a grid file (see the module)."""

    name: Name | None = None
    base: str = ""
    preset: str = ""
    set: dict[str, Any] = {}
    seeds: list[Seed] = []
    methods: list[str] = []
    axes: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = {}
    measure: Literal["validation", "test"] = "validation"
    retries: Whole = 1
    options: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of an axis: its label, and the parameters that it sets."""

    label: Any
    overrides: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of a grid: labels by axis, parameters over the base, ``Params.hash`` of all."""

    labels: dict[str, Any]
    overrides: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Job:
    """One trial of a configuration, not yet validated."""

    configuration: Configuration
    method: str
    seed: int
    cue: bool

    @property
    def key(self) -> str:
        """The trial's key."""
        return train.key(self.configuration.hash, self.method, self.seed, self.cue)


@dataclass(frozen=True)
class Grid:
    """A validated grid file over validated ``base`` parameters; axes with their values."""

    file: GridFile
    base: Params
    axes: dict[str, list[Choice]]

    @classmethod
    def load(cls, path: str | Path, base: Params | None = None, **overrides: Any) -> "Grid":
        """The grid of a YAML file, over ``base`` instead of the file's own if given.

        ``path`` may be the bare name of a file in ``params/grids``. ``overrides`` are parameters
        that win over the base and over ``set``. Raises `UserError`, one line, naming the file.
        """
        path = paths.parameter_file(path, "grids")
        given = read(path)
        wrong = sorted(given.keys() & Params.model_fields.keys() - GridFile.model_fields.keys())
        if wrong and not GRID_ONLY & given.keys():
            raise UserError(
                f"{path}: is a parameter file (it has {wrong[0]!r}); `ltgate run` runs it"
            )
        try:
            return cls.create(GridFile(**given), path, base, **overrides)
        except UserError as error:
            text = str(error)
            raise UserError(text if text.startswith(str(path)) else f"{path}: {text}") from None

    @classmethod
    def create(
        cls, file: GridFile, path: Path, base: Params | None = None, **overrides: Any
    ) -> "Grid":
        """The grid of fields; ``path`` says where its ``base`` lies, and its default name."""
        if base is not None:
            values = base.model_dump()
        else:
            values = read(path.parent / file.base) if file.base else {}
            values["name"] = file.name or path.stem
        if file.preset:
            values |= _preset(file.preset)
        given = {name: getattr(file, name) for name in ("seeds", "methods") if getattr(file, name)}
        made = Params(**{**values, **file.set, **given, **overrides})
        axes = {name: _choices(name, value) for name, value in file.axes.items()}
        if file.variants:
            axes["variant"] = [Choice(label, changes) for label, changes in file.variants.items()]
        _check(made, axes)
        _check_options(made.cluster, file.options)
        return cls(file, made, axes)

    @property
    def name(self) -> str:
        """Names the output folders."""
        return self.base.name

    def params(self, configuration: Configuration) -> Params:
        """All parameters of a configuration, validated."""
        return self.base.with_(**configuration.overrides)

    def configurations(self) -> Iterator[Configuration]:
        """Every configuration, hashed."""
        base = Params.texts(self.base.model_dump())
        for choices in itertools.product(*self.axes.values()):
            labels = {axis: choice.label for axis, choice in zip(self.axes, choices, strict=True)}
            changes: dict[str, Any] = {}
            for choice in choices:
                changes |= {name: _formed(name, v) for name, v in choice.overrides.items()}
            yield Configuration(labels, changes, Params.hash_of(base | Params.texts(changes)))

    def jobs(self, configurations: Iterable[Configuration] | None = None) -> Iterator[Job]:
        """Every trial of these configurations, or of all; what two have in common comes once."""
        base, seen = self.base, set()
        cues = {control: train.cues(base.with_(control=control)) for control in (True, False)}
        for configuration in self.configurations() if configurations is None else configurations:
            if configuration.hash in seen:
                continue
            seen.add(configuration.hash)
            for cue in cues[configuration.overrides.get("control", base.control)]:
                for seed in base.seeds:
                    for method in base.methods:
                        yield Job(configuration, method, seed, cue)


@functools.cache
def _form(name: str) -> TypeAdapter:
    return TypeAdapter(Params.model_fields[name].annotation)


def _formed(name: str, value: Any) -> Any:
    """A valid value as the model of all parameters holds it: 3 for a float is 3.0."""
    return _form(name).dump_python(_form(name).validate_python(value))


def _preset(method: str) -> dict[str, Any]:
    if method not in methods.names():
        allowed = ", ".join(methods.names())
        raise UserError(f"preset = {method!r}: is no method; allowed: {allowed}")
    return dict(methods.METHODS[method].preset)


def _choices(name: str, value: Any) -> list[Choice]:
    """An axis as it is written in the file."""
    if isinstance(value, list) and value:
        labels = (" ".join(map(str, v)) if isinstance(v, list) else v for v in value)
        return [Choice(label, {name: v}) for label, v in zip(labels, value, strict=True)]
    if isinstance(value, dict) and value and all(isinstance(x, dict) for x in value.values()):
        return [Choice(label, changes) for label, changes in value.items()]
    raise UserError(
        f"axes: {name} = {value!r}: must be a list of values, or {{label: {{parameter: value}}}}"
    )


def _check(base: Params, axes: dict[str, list[Choice]]) -> None:
    """Unknown names, wrong types and impossible values of every axis by itself.

    Contradictions between the values of several axes show when their trial begins.
    """
    for name, axis in axes.items():
        for choice in axis:
            _alone(base, choice.overrides, f"axes: {name}: {choice.label}")
    if (found := math.prod(map(len, axes.values()))) > LARGEST:
        raise UserError(f"axes: {found:.3g} configurations; allowed are {LARGEST}")


def _check_options(cluster: str, options: dict[str, Any]) -> None:
    """A grid file is data: no option runs code, goes on in a job's script, or opens a door."""
    allowed = OPTIONS.get(cluster, ())  # none of workers that are somebody else's
    for name, value in options.items():
        if name not in allowed:
            raise UserError(
                f"options: {name!r}: of cluster = {cluster!r} a grid file may give "
                f"{', '.join(allowed) or 'none'}; give others in dask's own configuration"
            )
        word = isinstance(value, str) and re.fullmatch(r"[\w.:,=+@%/-]{1,200}", value, re.ASCII)
        if not word and type(value) not in (int, float):
            raise UserError(f"options: {name} = {value!r}: must be a number or a word")


def _alone(base: Params, changes: dict[str, Any], where: str) -> None:
    for forbidden in ("name", "seeds", "methods"):
        if forbidden in changes:
            raise UserError(f"{where}: {forbidden} cannot be varied; it is given once for all")
    try:
        base.with_(**changes)
    except UserError as error:
        cause = error.__context__
        if isinstance(cause, ValidationError) and not any(e["loc"] for e in cause.errors()):
            return  # a contradiction, which another axis may lift
        raise UserError(f"{where}: {error}") from None
