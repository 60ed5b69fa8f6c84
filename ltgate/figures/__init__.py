"""Figures: each takes a tidy frame and returns a matplotlib figure; ``FIGURES`` lists them all.

``save_figure(r_heatmap(frame), folder, "r_heatmap")`` draws, saves (PDF and PNG) and, as a
notebook cell's last line, shows. A figure's file is named after its one producer.
"""

from ltgate.figures.ablations import ablations
from ltgate.figures.comparison import acc_forgetting_bars
from ltgate.figures.curves import learning_curves, r_heatmap
from ltgate.figures.data import tasks_and_frames
from ltgate.figures.display import show
from ltgate.figures.figure import FIGURES
from ltgate.figures.frame_rates import robustness
from ltgate.figures.grid import grid_heatmap, grid_slices
from ltgate.figures.loihi import (
    loihi_accuracy,
    loihi_cores,
    loihi_energy,
    loihi_front,
    loihi_learning,
    loihi_ranges,
)
from ltgate.figures.rasters import event_raster, gates_in_time, neuron_gates
from ltgate.figures.save import save_figure, save_table
from ltgate.figures.scaling import scaling
from ltgate.figures.traces import membrane_traces, spike_rates_and_gates

__all__ = [
    "FIGURES",
    "ablations",
    "acc_forgetting_bars",
    "event_raster",
    "gates_in_time",
    "grid_heatmap",
    "grid_slices",
    "learning_curves",
    "loihi_accuracy",
    "loihi_cores",
    "loihi_energy",
    "loihi_front",
    "loihi_learning",
    "loihi_ranges",
    "membrane_traces",
    "neuron_gates",
    "r_heatmap",
    "robustness",
    "save_figure",
    "save_table",
    "scaling",
    "show",
    "spike_rates_and_gates",
    "tasks_and_frames",
]
