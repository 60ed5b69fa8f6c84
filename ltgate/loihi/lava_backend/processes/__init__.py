"""Lava processes and their models, and nothing else: Lava's compiler executes every file here.

All ports carry [batch, height, width, channels]; Lava itself has no batches. Every connection takes
one step, so layer l sees step t of a sample at Lava's step t + l + 2 (both counted from 0 and 1).
"""
