"""LT-Gate: local timescale gates for continual spiking neural networks."""

__version__ = "0.1.0"
