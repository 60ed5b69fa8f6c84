"""Parameter files: flat YAML, plain data only, each name once; 1e-3 is a number, as in YAML 1.2."""

import re
from pathlib import Path
from typing import Any

import yaml

from ltgate.declare import shown
from ltgate.errors import UserError

LARGEST_FILE = 1 << 16  # bytes of a parameter file


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
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not UTF-8 text")
        raise UserError(f"{path}: cannot read this parameter file ({reason})") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}:{error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold 'name: value' lines, not {shown(values)}")
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
    except RecursionError:
        line, problem = "", "nested too deeply"
    except (ValueError, TypeError, OverflowError) as error:  # a date or a number that is none
        line, problem = "", str(error).split("\n")[0][:200]
    raise ValueError(f"{line} not valid YAML: {problem}")


def text(values: dict[str, Any]) -> str:
    """Values as YAML that :func:`parse` reads back to equal ones."""
    return yaml.dump(values, Dumper=_Writer, sort_keys=False, default_flow_style=None, width=100)


class _Plain(yaml.SafeLoader):
    """YAML's safe loader, refusing a name that is given twice, and aliases.

    Through aliases a file of a few lines can stand for more values than any memory holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

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


class _Writer(yaml.SafeDumper):
    """Quotes what our loader would take for a number."""


for _kind in (_Plain, _Writer):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), "-+0123456789"
    )
