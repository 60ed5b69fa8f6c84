"""The list of figures, and the checks that all of them share."""

import functools
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from ltgate.errors import UserError
from ltgate.figures import style

FIGURES: list[Callable[..., Figure]] = []
"""Every figure's one producer; a figure's file name is its producer's ``__name__``."""


def figure(*columns: str) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Register ``producer(frame, ...) -> Figure``, which needs these ``columns`` of its frame.

    An empty frame or a missing column raises ``UserError``; the style is set for the call only.
    """

    def register(producer: Callable[..., Figure]) -> Callable[..., Figure]:
        name = producer.__name__

        @functools.wraps(producer)
        def draw(frame: pd.DataFrame, *arguments: object, **options: object) -> Figure:
            if missing := [column for column in columns if column not in frame]:
                raise UserError(
                    f"{name}: column {missing[0]!r} is missing; needed are {', '.join(columns)}"
                )
            if frame.empty:
                raise UserError(f"{name}: the frame is empty; at least one row is needed")
            with style.context():
                return producer(frame, *arguments, **options)

        draw.columns = columns
        FIGURES.append(draw)
        return draw

    return register


def one_setting(frame: pd.DataFrame, figure: str, *columns: str) -> None:
    """Raise ``UserError`` unless each of the ``columns`` holds one value: a figure never mixes."""
    for column in columns:
        if column in frame and (count := frame[column].nunique()) > 1:
            values = ", ".join(map(str, frame[column].unique()))
            raise UserError(
                f"{figure}: {count} values of {column} ({values}); allowed is one: choose it before"
            )
