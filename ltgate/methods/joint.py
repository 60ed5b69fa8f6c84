"""Joint training: all tasks so far at once, from scratch. The upper bound."""

from ltgate.data.store import TaskImages
from ltgate.methods.lt_gate import LTGate


class Joint(LTGate):
    """LT-Gate whose readout starts anew at every task and sees the images of all tasks so far."""

    def curriculum(self, position: int) -> list[int]:
        """Every task up to this one."""
        return list(range(position + 1))

    def begin_task(self, position: int, images: TaskImages) -> None:
        """Filters as in LT-Gate (first task); a fresh readout."""
        super().begin_task(position, images)
        self.readout = self._new_readout()
