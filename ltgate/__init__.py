"""LT-Gate: local timescale gates for continual spiking neural networks."""

from ltgate import homes

__version__ = "0.1.0"

homes.ensure()
