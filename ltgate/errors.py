"""Errors: mistakes that a user can mend, and work that failed."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake in a parameter, a file or the set-up, told in one line.

    The message names the thing, its value and what is allowed.
    """


class NotFinite(UserError):
    """NaN or infinity where numbers belong; the message names the layer and what to change."""


class Failed(Exception):
    """A notebook or a trial failed while others may have succeeded; what to show the user."""


@contextmanager
def telling(where: str) -> Iterator[None]:
    """Begin the message of a `UserError` in the block with ``where``."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def one_line(error: BaseException, most: int = 200) -> str:
    """Kind and first line of an error, at most ``most`` characters, for a message or a record."""
    return f"{type(error).__name__}: {error}".split("\n")[0][:most]
