"""What a parameter is: its type, what it allows, and the one line that refuses a wrong value.

Every room of the library declares its own parameters beside its code, as fields of a `Group`: the
default, and a line of text below it that says what it is. :mod:`ltgate.params` joins all groups to
one flat model.
"""

import difflib
import re
import types
import typing
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import annotated_types as bounds
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from ltgate.errors import UserError

_WORDS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "text of letters, digits, '-', '_' and '.', at most 100",
    r"^(auto|cpu|cuda(:[0-9]+)?)$": "auto | cpu | cuda | cuda:N",
    r"^(none|local|slurm|pbs|sge|(tcp|tls)://\S+)$": "none | local | slurm | pbs | sge | "
    "tls://HOST:PORT",
}


def distinct(values: list[Any]) -> list[Any]:
    """``values`` if none comes twice; else `ValueError`."""
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} is given twice")
    return values


def _printable(text: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ValueError("holds a control character, which no path may")
    return text


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Label = Annotated[int, Field(ge=0, le=255)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
FilePath = Annotated[str, AfterValidator(_printable)]
Some = Field(min_length=1)  # of a list
Distinct = AfterValidator(distinct)


@dataclass(frozen=True)
class OneOf:
    """The name of an entry in a table that may still grow: ``Annotated[str, OneOf(TABLE)]``."""

    table: Collection[str]
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " | ".join([*self.also, *self.table])

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, name: str) -> str:
        if name not in self.table and name not in self.also:
            raise ValueError(f"must be {self}{nearest(name, self.table)}")
        return name


class Strict(BaseModel):
    """Frozen and strict: no text for numbers, no NaN or infinity, no unknown names."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(one_line(type(self), error)) from None


class Group(Strict):
    """Parameters that belong together; its docstring is their heading.

    ``class Speed(Group, compute=True)``: they change how a result is computed, or which results,
    but never a result's value, and do not enter the hash of a configuration.
    ``class More(Group, since="0.2")``: declared when results existed; they enter it only where they
    differ from their defaults, so that earlier results keep their hashes.
    ``class Last(Group, late=True)``: nothing that a learner makes before its first batch (filters,
    thresholds) depends on them, so that trials which differ in them alone share it.
    """

    compute: ClassVar[bool] = False
    since: ClassVar[str] = ""
    late: ClassVar[bool] = False
    joined: ClassVar[bool] = False  # whether the model of all parameters has been put together

    def __init_subclass__(
        cls, compute: bool = False, since: str = "", late: bool = False, **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        if Group.joined:
            raise UserError(
                f"{cls.__name__}: parameters are declared before the first use of them; define it "
                "in a file of its room, or above whatever reads ltgate.params.Params"
            )
        cls.compute, cls.since, cls.late = compute, since, late


def nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def one_line(model: type[Strict], error: ValidationError) -> str:
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
        return f"unknown parameter {name!r}{nearest(name, model.model_fields)}{more}"
    allowed = _allowed_by(model.model_fields[location[0]])
    if first["type"] == "missing":
        return f"{name}: is missing; must be {allowed}{more}"
    if isinstance(cause, UserError):  # from a model inside this one
        return f"{name}: {cause}{more}"
    if cause is not None:
        return f"{name} = {shown(first['input'])}: {cause}{more}"
    hint = _number_hint(first["input"]) if first["type"] in ("float_type", "int_type") else ""
    return f"{name} = {shown(first['input'])}: must be {allowed}{hint}{more}"


def _number_hint(value: Any) -> str:
    """What to write for a number that arrived as text; papermill's YAML wants the point, too."""
    if not (isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\.?\d*([eE][+-]?\d+)?\s*", value)):
        return ""
    return "; this is text, write it without quotes, a power of ten as in 1.0e-3"


def help_line(field: FieldInfo) -> str:
    text = " ".join(field.description.split())
    return f"{text}. Allowed: {_allowed_by(field)}. Default: {_default(field)}."


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
    for constraint in metadata:
        if isinstance(constraint, OneOf):
            return str(constraint)
        if pattern := getattr(constraint, "pattern", None):
            return _WORDS[pattern]
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
