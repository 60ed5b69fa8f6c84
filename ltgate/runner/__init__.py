"""Runs of the notebooks with parameter files: planned, executed, recorded, reported, compared."""
