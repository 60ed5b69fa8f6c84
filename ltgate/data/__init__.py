"""Images as temporal tasks: sources, task files, batches and the frames of a sample."""

from ltgate.data.store import SPLITS, Batch, TaskImages, batches, is_test_file, open_task
from ltgate.data.tasks import PRESENTATIONS, Schedule, schedule
from ltgate.registry import import_files

__all__ = [
    "PRESENTATIONS",
    "SPLITS",
    "Batch",
    "Schedule",
    "TaskImages",
    "batches",
    "is_test_file",
    "open_task",
    "schedule",
]

import_files(__name__, __path__)
