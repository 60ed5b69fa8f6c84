"""The hash of many configurations of one base, without building each.

``Params.hash`` is the SHA-256 of all parameters as sorted JSON. The text of each of the base's
parameters is made once; a configuration replaces those that it overrides. Values take the form that
validation gives them (3 for a float becomes 3.0); that form is remembered for every value.
"""

import hashlib
import json
from typing import Any

from ltgate.data.tasks import TaskSpec
from ltgate.params import Params, is_compute


class Hasher:
    """Hashes of ``base`` under overrides; equal to ``base.with_(**overrides).hash``.

    Overrides must hold known parameters, each valid by itself.
    """

    def __init__(self, base: Params) -> None:
        values = base.model_dump()
        self._names = sorted(name for name in values if not is_compute(name))
        self._texts = {name: _text(values[name]) for name in self._names}
        self._known: dict[tuple[str, str], str] = {}

    def hash(self, overrides: dict[str, Any]) -> str:
        """12 hexadecimal digits."""
        texts = self._texts
        if overrides:
            changed = {name: self._canonical(name, value) for name, value in overrides.items()}
            texts = {**texts, **changed}
        text = ",".join([f'"{name}":{texts[name]}' for name in self._names])
        return hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:12]

    def _canonical(self, name: str, value: Any) -> str:
        """The JSON text of a value as the parameter model holds it."""
        if type(value) is float:  # as it is, and random draws rarely come twice
            return repr(value)
        key = (name, repr(value))
        if key not in self._known:
            field = Params.model_fields[name]
            if type(value) is int and field.annotation is float:
                value = float(value)
            if name == "tasks":
                value = [TaskSpec(**dict(task)).model_dump() for task in value]
            self._known[key] = _text(value)
        return self._known[key]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
