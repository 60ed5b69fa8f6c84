"""Every parameter of an experiment in one validated, flat model.

`Params` joins the groups that the rooms declare beside their code (:mod:`ltgate.declare`); it is
put together when it is first asked for. A parameter file is flat YAML; later files and keyword
overrides win. Whatever is wrong (an unknown name, a wrong type, an impossible value, a
contradiction) is told in one line as a `UserError`.
"""

import hashlib
import json
import types
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import create_model

from ltgate.declare import Group, Strict, help_line, shown
from ltgate.errors import UserError
from ltgate.parameter_files import read, text
from ltgate.paths import parameter_file

# Where parameters are declared, in the order in which they are listed. Data, plasticity and methods
# import all of their files, so that a method, a rule or a source brings its own.
ROOMS = (
    "train", "data", "neurons", "network", "plasticity", "methods", "features", "robustness",
    "grid.parameters", "loihi.chip_parameters", "perf.bench_parameters", "backends",
)  # fmt: skip

FIRST: dict[str, Any] = {"parameters": "", "changes": {}}  # what a notebook's first cell has
GRID_ONLY = {"axes", "base", "set", "variants"}  # what a grid file has and a parameter file has not


class _Joined(Strict):
    """What the model of all parameters can do."""

    groups: ClassVar[dict[str, type[Group]]]  # of every parameter

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

    @property
    def hash(self) -> str:
        """12 hexadecimal digits that identify the configuration.

        The same on every machine; parameters that cannot change a result (``compute``) do not
        enter it, nor do later ones (``since``) at their defaults.
        """
        return self.hash_of(self.texts(self.model_dump()))

    @classmethod
    def texts(cls, values: dict[str, Any]) -> dict[str, str]:
        """Every parameter of ``values`` as JSON, empty where it does not enter the hash."""
        return {
            name: f'"{name}":{json.dumps(value, sort_keys=True, separators=(",", ":"))}'
            if cls.identifies(name, value)
            else ""
            for name, value in values.items()
        }

    @staticmethod
    def hash_of(texts: dict[str, str]) -> str:
        """The hash of the configuration with these :meth:`texts`: SHA-256 of them as one JSON."""
        joined = ",".join(texts[name] for name in sorted(texts) if texts[name])
        return hashlib.sha256(f"{{{joined}}}".encode()).hexdigest()[:12]

    @classmethod
    def identifies(cls, name: str, value: Any) -> bool:
        """Whether ``value`` of parameter ``name`` enters the hash."""
        group = cls.groups[name]
        at_default = group.since and value == cls.model_fields[name].get_default()
        return not (group.compute or at_default)

    @classmethod
    def help(cls) -> dict[str, str]:
        """One line per parameter: what it is, its unit, what is allowed and the default."""
        return {name: help_line(field) for name, field in cls.model_fields.items()}

    def to_yaml(self) -> str:
        """All parameters as YAML that `Params.load` reads back to an equal value."""
        return text(self.model_dump())


if TYPE_CHECKING:
    Params = _Joined


def __getattr__(name: str) -> Any:
    if name != "Params":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = _join()
    return globals()[name]


def _join() -> type[_Joined]:
    """The model of all parameters that the rooms declare."""
    for room in ROOMS:
        import_module(f"ltgate.{room}")
    groups = sorted(Group.__subclasses__(), key=_place)
    declared = {name: group for group in groups for name in group.model_fields}
    if len(declared) < sum(len(group.model_fields) for group in groups):
        raise ValueError("a parameter is declared twice")  # by whoever added one
    model = create_model(
        "Params",
        __base__=(*reversed(groups), _Joined),
        __module__=__name__,
        __doc__="All parameters of an experiment; `Params.help` tells what each is and allows.",
    )
    model.groups = declared
    Group.joined = True
    return model


def _place(group: type[Group]) -> tuple[int, str]:
    """Where a group stands in the list of all: by its room, then by its file."""
    module = f"{group.__module__}."
    rooms = (place for place, room in enumerate(ROOMS) if module.startswith(f"ltgate.{room}."))
    return next(rooms, len(ROOMS)), module


def from_namespace(namespace: dict[str, Any]) -> "Params":
    """Validated parameters from a notebook's ``globals()``.

    Those of the file ``parameters`` (a path, or a name in ``params/``) with ``changes`` over it, as
    the notebook's first cell says; or, where papermill has put parameters below that cell, these
    alone over the library's defaults: the same experiment as ``ltgate run`` makes of them.

    Every plain value (number, text, truth value, list, mapping, None) whose name does not start
    with an underscore counts as a parameter. An unknown name raises `UserError`; once a call has
    succeeded, names the notebook defines further down are no longer mistaken for parameters, so
    the cell may be run again.
    """
    model = import_module(__name__).Params
    plain = (bool, int, float, str, list, tuple, dict, set, types.NoneType)
    ignored = (types.ModuleType, types.FunctionType, type)
    values: dict[str, Any] = {}
    for name, value in namespace.items():
        if name.startswith("_") or name in ("In", "Out", *FIRST) or isinstance(value, ignored):
            continue
        known = name in model.model_fields
        if known or (isinstance(value, plain) and "_ltgate_params_read" not in namespace):
            values[name] = value
    file, changes = (namespace.get(name, default) for name, default in FIRST.items())
    if values and changes:
        raise UserError(f"changes = {shown(changes)}: with {', '.join(values)} given, put it there")
    try:
        result = model(**values) if values else model.load(*[file] * bool(file), **changes)
    except UserError as error:
        stale = str(error).startswith("unknown")  # a name once set stays in the kernel
        raise UserError(f"{error}{'; mend it and restart the kernel' * stale}") from None
    namespace["_ltgate_params_read"] = True
    return result
