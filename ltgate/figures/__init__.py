"""Figures: each takes a tidy frame and returns a matplotlib figure; ``FIGURES`` lists them all.

``save_figure(r_heatmap(frame), folder, "r_heatmap")`` draws, saves (PDF and PNG) and, as a
notebook cell's last line, shows. A figure's file is named after its one producer.
"""

from ltgate.figures.comparison import ablations as ablations
from ltgate.figures.comparison import acc_forgetting_bars as acc_forgetting_bars
from ltgate.figures.comparison import confusion as confusion
from ltgate.figures.comparison import learning_curves as learning_curves
from ltgate.figures.comparison import r_heatmap as r_heatmap
from ltgate.figures.comparison import robustness as robustness
from ltgate.figures.diagram import network_diagram as network_diagram
from ltgate.figures.grid import grid_heatmap as grid_heatmap
from ltgate.figures.grid import grid_slices as grid_slices
from ltgate.figures.grid import scaling as scaling
from ltgate.figures.loihi import loihi_accuracy as loihi_accuracy
from ltgate.figures.loihi import loihi_cores as loihi_cores
from ltgate.figures.loihi import loihi_energy as loihi_energy
from ltgate.figures.loihi import loihi_front as loihi_front
from ltgate.figures.loihi import loihi_learning as loihi_learning
from ltgate.figures.loihi import loihi_ranges as loihi_ranges
from ltgate.figures.save import read_table as read_table
from ltgate.figures.save import save_figure as save_figure
from ltgate.figures.save import save_table as save_table
from ltgate.figures.save import show as show
from ltgate.figures.style import FIGURES as FIGURES
from ltgate.figures.traces import embedding as embedding
from ltgate.figures.traces import event_raster as event_raster
from ltgate.figures.traces import gates_in_time as gates_in_time
from ltgate.figures.traces import learned_filters as learned_filters
from ltgate.figures.traces import membrane_traces as membrane_traces
from ltgate.figures.traces import neuron_gates as neuron_gates
from ltgate.figures.traces import spike_rates_and_gates as spike_rates_and_gates
from ltgate.figures.traces import tasks_and_frames as tasks_and_frames
