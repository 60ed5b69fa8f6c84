"""Loihi 2: a trained network in the chip's integers, run, mapped, estimated.

``quantise`` makes the integers, ``twin`` runs them exactly on any machine, ``lava_backend`` runs
them in Lava where it is installed, ``mapping`` puts them on cores, ``estimate`` says what energy
and time that may take. Only ``lava_backend`` and ``lava_check`` know Lava.
"""
