"""Parameters of Loihi 2."""

from typing import Annotated, Literal

from pydantic import Field

from ltgate.declare import Count, Group


class ChipParameters(Group):
    """Loihi 2."""

    chip_aware: bool = False
    """train with the weights and decays that Loihi 2 has (chip_bits, 12 bits)"""
    chip_bits: Annotated[int, Field(ge=2, le=8)] = 8
    """bits of a weight on Loihi 2"""


class DeployParameters(Group, compute=True):
    """How Loihi 2 is used."""

    chip_input: Literal["direct", "differences"] = "differences"
    """pixels sent to the chip: every frame, or changes of a current held there"""
    chip_spread: Count = 1
    """how many times the cores it needs a convolution is spread over"""
