"""Every figure is drawn, saved in both formats, the same each time, and shows its data."""

import os

import numpy as np
import pandas as pd
import pytest
from processes import run_python

from ltgate import figures
from ltgate.errors import UserError
from ltgate.figures import save, style
from ltgate.files import sha256

METHODS = list(style.METHODS)
TASKS = ("fast", "slow")


def tasks_and_frames() -> pd.DataFrame:
    random = np.random.default_rng(0)
    shown = {"fast": np.arange(200.0), "slow": np.arange(20) * 20.0}
    return pd.DataFrame(
        {
            "task": task,
            "label": label,
            "image": random.integers(0, 256, (28, 28), dtype=np.uint8),
            "time_ms": shown[task],
            "drive": np.ones(shown[task].size),
        }
        for task in TASKS
        for label in range(5)
    )


def membrane_traces() -> pd.DataFrame:
    rows = []
    for task, dt, steps in (("fast", 1.0, 200), ("slow", 20.0, 20)):
        for compartment, tau in (("fast", 5.0), ("slow", 100.0)):
            membrane = 0.0
            for t in range(steps):
                membrane = np.exp(-dt / tau) * membrane + (1 - np.exp(-dt / tau)) * 0.7
                spike = int(membrane >= 0.5)
                rows.append((task, compartment, t * dt, membrane, 0.5, spike))
                membrane -= 0.5 * spike
    return pd.DataFrame(
        rows, columns=["task", "compartment", "time_ms", "membrane", "threshold", "spike"]
    )


def learning_curves() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = []
    for number, method in enumerate(METHODS):
        kept = 0.95 if method.startswith("lt_gate") else 0.9 - 0.1 * number
        for seed in range(3):
            for batch in range(0, 1201, 50):
                fast = 0.97 * (1 - np.exp(-batch / 80)) if batch <= 600 else kept
                slow = 0.94 * (1 - np.exp(-max(batch - 600, 0) / 80))
                for task, accuracy in (("fast", fast), ("slow", slow)):
                    accuracy = np.clip(accuracy + random.normal(0, 0.01), 0, 1)
                    rows.append((method, seed, batch, task, accuracy, 600))
    return pd.DataFrame(rows, columns=["method", "seed", "batch", "task", "accuracy", "boundary"])


def spike_rates_and_gates() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "layer": layer,
            "when": f"{task} task",
            "compartment": compartment,
            "rate": random.uniform(0.02, 0.08),
            "gate": random.uniform(0.2, 0.8),
        }
        for layer in ("conv1", "conv2", "conv3", "dense1")
        for task in TASKS
        for compartment in ("fast", "slow")
    )


def r_heatmap() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {"method": method, "step": i, "task": TASKS[j], "accuracy": random.uniform(0.2, 1)}
        for method in METHODS
        for i in range(2)
        for j in range(i + 1)
    )


def acc_forgetting_bars() -> pd.DataFrame:
    random = np.random.default_rng(0)
    paper = {"lt_gate": (0.51, 0.032), "hlop": (0.46, np.nan)}
    rows = []
    for method in METHODS:
        for cue in ("yes", "no"):
            means = random.uniform(0.4, 0.97), random.uniform(0, 0.4)
            told = paper.get(method, (np.nan, np.nan))
            for metric, mean, value in zip(("acc", "forgetting"), means, told, strict=True):
                rows.append(
                    {
                        "method": method,
                        "scenario": "class",
                        "sequence": "fast>slow",
                        "cue": cue,
                        "metric": metric,
                        "mean": mean,
                        "ci_low": mean - 0.02,
                        "ci_high": mean + 0.02,
                        "seeds": 3,
                        "train_images": 48_000,
                        "paper": value if cue == "yes" else np.nan,
                    }
                )
    return pd.DataFrame(rows)


def ablations() -> pd.DataFrame:
    main = acc_forgetting_bars()
    one = main[(main["method"] == "lt_gate") & (main["cue"] == "yes")]
    names = ("reference", "tau10", "tau20", "tau100", "nofast", "noslow", "gamma_fixed", "eta_half")
    return pd.concat(
        [
            one.assign(
                variant=name,
                mean=one["mean"] - 0.01 * n,
                ci_low=one["ci_low"] - 0.01 * n,
                ci_high=one["ci_high"] - 0.01 * n,
            )
            for n, name in enumerate(names)
        ]
    )


def grid_heatmap() -> pd.DataFrame:
    return pd.DataFrame(
        {"eta": eta, "tau_ratio": ratio, "accuracy": 0.9 + 5 * eta + ratio / 1000}
        for eta in (0.002, 0.005)
        for ratio in (20, 50)
    )


def grid_slices() -> pd.DataFrame:
    values = {"eta": [0.01, 0.1, 0.1, 1.0], "gate": ["select", "blend", "select", "blend"]}
    values |= {f"other{n}": [n, n + 1, n, n + 1] for n in range(4)}
    return pd.DataFrame(
        {"axis": axis, "value": value, "accuracy": 0.5 + 0.1 * n}
        for axis, four in values.items()
        for n, value in enumerate(four)
    )


def scaling() -> pd.DataFrame:
    powers = {"batch size": 0.95, "time steps": 1.02, "convolutions": 1.1}
    powers |= {"loader processes": 0.1, "training images": 1.0, "epochs": 1.0}
    return pd.DataFrame(
        {
            "sweep": sweep,
            "x": x,
            "quantity": quantity,
            "value": scale * x**exponent,
            "unit": unit,
            "exponent": exponent,
        }
        for sweep, power in powers.items()
        for quantity, unit, scale, exponent in (("time", "s", 0.02, power), ("memory", "MB", 20, 0))
        for x in (1, 2, 4, 8)
    )


def robustness() -> pd.DataFrame:
    rows = []
    for number, method in enumerate(METHODS[:5]):
        for trained in (1000.0, 50.0):
            for presentation in ("frame", "pulse"):
                for tested in (25, 50, 100, 200, 500, 1000):
                    gap = abs(np.log10(tested / trained))
                    mean = 0.97 - 0.05 * number - 0.05 * (1 + number) * gap
                    rows.append(
                        (method, trained, tested, presentation, mean, mean - 0.01, mean + 0.01)
                    )
    columns = ["method", "trained_hz", "tested_hz", "presentation", "mean", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def loihi_cores() -> pd.DataFrame:
    layers = ["input"] * 2 + ["conv1"] * 20 + ["conv2"] * 9 + ["margin"] * 8
    return pd.DataFrame(
        {
            "core": core,
            "row": core // 16,
            "column": core % 16,
            "layer": (layers + [""] * 128)[core],
            "used": 0.6,
        }
        for core in range(128)
    )


def loihi_energy() -> pd.DataFrame:
    return pd.DataFrame(
        {"task": task, "layer": layer, "part": part, "joules": 1e-4 * (1 + n)}
        for task in TASKS
        for layer in ("conv1", "conv2", "conv3")
        for n, part in enumerate(("synops", "updates", "traffic"))
    )


def loihi_ranges() -> pd.DataFrame:
    return pd.DataFrame(
        {"quantity": quantity, "task": task, "low": 1e-3, "high": 4e-3}
        for quantity in ("dynamic energy", "total energy", "latency")
        for task in TASKS
    )


def loihi_accuracy() -> pd.DataFrame:
    return pd.DataFrame(
        {"trained": trained, "runs_as": kind, "task": task, "accuracy": 0.97}
        for trained in ("full precision", "chip-aware")
        for kind in ("float", "integers")
        for task in TASKS
    )


def loihi_front() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "joules": 1e-4 * bits * (1 + (coding == "direct")),
            "accuracy": 0.9 + 0.01 * bits,
            "target_rate": 0.02,
            "chip_bits": bits,
            "chip_input": coding,
            "front": coding == "differences",
        }
        for bits in (4, 8)
        for coding in ("direct", "differences")
    )


def loihi_learning() -> pd.DataFrame:
    return pd.DataFrame(
        {"rule": rule, "samples": samples, "task": task, "accuracy": samples / 100}
        for rule in ("chip", "library")
        for samples in (0, 20, 40)
        for task in TASKS
    )


def event_raster() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (task, label, dt * frame, random.integers(0, 40))
        for task, dt in (("fast", 1.0), ("slow", 20.0))
        for label in range(2)
        for frame in range(160)
    ]
    return pd.DataFrame(rows, columns=["task", "label", "time_ms", "channel"])


def gates_in_time() -> pd.DataFrame:
    rows = []
    for task, weight in (("fast", 0.9), ("slow", 0.1)):
        for name, height in (("fast", weight), ("slow", 1 - weight)):
            for frame in range(160):
                rows.append((task, name, frame, height, height - 0.05, height + 0.05))
    return pd.DataFrame(rows, columns=["task", "compartment", "frame", "median", "low", "high"])


def neuron_gates() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (method, 0, neuron, random.uniform(), float(neuron < 32))
        for method in ("gate_quieter", "gate_teacher", "gate_static", "gate_oracle")
        for neuron in range(64)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "neuron", "gate", "truth"])


EXAMPLES = {producer.__name__: globals()[producer.__name__] for producer in figures.FIGURES}
every_figure = pytest.mark.parametrize("producer", figures.FIGURES, ids=lambda f: f.__name__)


@every_figure
def test_a_figure_of_every_producer(producer, tmp_path):
    """Both formats, the same bytes each time; labels, a laptop's size; the frame as it was."""
    name, frame = producer.__name__, EXAMPLES[producer.__name__]()
    before = frame.copy(deep=True)
    for folder in ("first", "second"):
        fig = producer(frame)
        assert figures.save_figure(fig, tmp_path / folder, name) is fig
    pd.testing.assert_frame_equal(frame, before)
    assert sorted(os.listdir(tmp_path / "first")) == [f"{name}.pdf", f"{name}.png"]
    for suffix, begin in (("pdf", b"%PDF"), ("png", b"\x89PNG")):
        first, second = (tmp_path / folder / f"{name}.{suffix}" for folder in ("first", "second"))
        assert first.read_bytes().startswith(begin) and sha256(first) == sha256(second)
    width, height = fig.get_size_inches()
    assert 3 <= width <= 11 and 2 <= height <= 8
    labels = [label for a in fig.axes for label in (a.get_xlabel(), a.get_ylabel()) if label]
    labels += [label for label in (fig.get_supxlabel(), fig.get_supylabel()) if label]
    assert len(labels) >= 2


@every_figure
def test_a_missing_column_and_an_empty_frame_are_named(producer):
    frame = EXAMPLES[producer.__name__]()
    for column in producer.columns:
        with pytest.raises(UserError, match=f"^{producer.__name__}: column '{column}' is missing"):
            producer(frame.drop(columns=column))
    with pytest.raises(UserError, match=f"^{producer.__name__}: the frame is empty"):
        producer(frame.iloc[:0])


def test_learning_curves_show_means_and_the_boundary():
    frame = learning_curves()
    frame = frame[frame["method"] == "joint"]
    fast = figures.learning_curves(frame).axes[0]
    curve, boundary = fast.lines
    expected = frame[frame["task"] == "fast"].groupby("batch")["accuracy"].mean()
    np.testing.assert_allclose(curve.get_ydata(), expected)
    assert list(boundary.get_xdata()) == [600, 600]
    joint = figures.learning_curves(frame.assign(boundary=np.nan)).axes[0]
    assert len(joint.lines) == 1


def test_r_heatmap_averages_seeds_and_leaves_later_tasks_blank():
    rows = [("joint", 0, "b", 0.8), ("joint", 0, "b", 0.6), ("joint", 1, "b", 0.5)]
    rows += [("joint", 1, "a", 0.9)]
    frame = pd.DataFrame(rows, columns=["method", "step", "task", "accuracy"])
    axis = figures.r_heatmap(frame).axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.70", "0.50", "0.90"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["after b", "after a"]


def test_bars_show_means_intervals_and_the_papers_value():
    frame = acc_forgetting_bars()
    frame = frame[(frame["method"] == "lt_gate") & (frame["cue"] == "yes")]
    acc = figures.acc_forgetting_bars(frame).axes[0]
    row = frame[frame["metric"] == "acc"].iloc[0]
    assert acc.patches[0].get_width() == row["mean"]
    drawn = [list(line.get_xdata()) for line in acc.lines]
    assert [row["ci_low"], row["ci_high"]] in drawn and [0.51] in drawn
    unknown = figures.acc_forgetting_bars(frame.assign(ci_low=np.nan, ci_high=np.nan)).axes[0]
    assert len(unknown.lines) == len(acc.lines) - 1  # one seed has no interval


@pytest.mark.parametrize(("column", "value"), [("sequence", "slow>fast"), ("train_images", 10)])
def test_bars_never_mix_settings(column, value):
    frame = acc_forgetting_bars()
    mixed = pd.concat([frame, frame.assign(**{column: value})])
    with pytest.raises(UserError, match=f"2 values of {column}"):
        figures.acc_forgetting_bars(mixed)
    with pytest.raises(UserError, match="scenario 'task'; there: class"):
        figures.acc_forgetting_bars(frame, scenario="task")


def test_grid_frames_the_best_cell():
    axis = figures.grid_heatmap(grid_heatmap()).axes[0]
    (frame,) = axis.patches
    assert frame.get_xy() == (1, 1)  # tau_ratio 50, eta 0.005
    with pytest.raises(UserError, match="no number"):
        figures.grid_heatmap(grid_heatmap().assign(accuracy=np.nan))


def test_grid_cells_show_the_interval_over_seeds():
    seeds = pd.concat([grid_heatmap(), grid_heatmap().assign(accuracy=0.5)])
    cells = [text.get_text() for text in figures.grid_heatmap(seeds).axes[0].texts]
    mean = (0.5 + 0.9 + 5 * 0.002 + 0.02) / 2
    half = 12.7062 * (0.43 / 2) * np.sqrt(2) / np.sqrt(2)  # t with one degree of freedom
    assert cells[0] == f"{mean:.3f}\n± {half:.3f}"
    assert figures.grid_heatmap(grid_heatmap()).axes[0].texts[0].get_text() == "0.930"
    other = seeds.rename(columns={"eta": "threshold"}).assign(tau_ratio="a")
    axis = figures.grid_heatmap(other, y="threshold").axes[0]
    assert axis.get_ylabel() == "threshold" and axis.get_xticklabels()[0].get_text() == "a"
    with pytest.raises(UserError, match="column 'eta' is missing"):
        figures.grid_heatmap(other)


def test_slices_show_every_configuration_and_the_best_of_each_value():
    eta, gate, *_ = figures.grid_slices(grid_slices()).axes
    points, best = eta.lines
    assert list(points.get_xdata()) == [0.01, 0.1, 0.1, 1.0] and eta.get_xscale() == "log"
    assert list(best.get_ydata()) == pytest.approx([0.5, 0.7, 0.8])
    assert [label.get_text() for label in gate.get_xticklabels()] == ["select", "blend"]
    assert list(gate.lines[1].get_ydata()) == pytest.approx([0.7, 0.8])


def test_ablations_put_the_control_beside():
    both = pd.concat([ablations(), ablations().assign(cue="no", mean=0.25)])
    alone, beside = (figures.ablations(frame).axes[0] for frame in (ablations(), both))
    points = [line for line in beside.lines if line.get_marker() == "o"]
    assert len(points) == 16
    hollow = [line for line in points if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [0.25] * 8
    assert not any(line.get_markerfacecolor() == "white" for line in alone.lines)


def test_robustness_is_over_the_logarithm_of_the_rate():
    frame = robustness()
    fig = figures.robustness(frame)
    assert len(fig.axes) == 4  # a row a training rate, a column a presentation
    assert {axis.get_xscale() for axis in fig.axes} == {"log"}
    frame = frame[(frame["trained_hz"] == 50) & (frame["presentation"] == "pulse")]
    for line, method in zip(fig.axes[3].lines, METHODS[:5], strict=False):
        rows = frame[frame["method"] == method]
        assert list(line.get_xdata()) == list(rows["tested_hz"])
        assert list(line.get_ydata()) == list(rows["mean"])
    assert len(fig.legends[0].get_texts()) == 5  # each method once


def test_scaling_draws_every_point_and_the_fitted_power():
    frame = scaling()
    fig = figures.scaling(frame)
    assert len(fig.axes) == 2 * 6
    time, memory = fig.axes[0], fig.axes[6]
    points, line = time.lines
    assert list(points.get_xdata()) == [1, 2, 4, 8]
    assert list(points.get_ydata()) == pytest.approx([0.02 * x**0.95 for x in (1, 2, 4, 8)])
    assert list(line.get_ydata()) == pytest.approx(list(points.get_ydata()))
    assert time.get_legend().get_texts()[0].get_text() == r"$\propto x^{0.95}$"
    assert list(memory.lines[1].get_ydata()) == pytest.approx([20] * 4)
    low, high = memory.get_ylim()
    assert high / low >= 10  # what is flat looks flat
    only = figures.scaling(frame[(frame["sweep"] != "epochs") | (frame["quantity"] == "time")])
    assert not only.axes[11].axison  # nothing measured there


def test_colours_of_methods_differ():
    assert len({style.method(name)[1] for name in METHODS}) == len(METHODS)
    assert style.method("new_one")[0] == "new_one"


def test_no_backend_is_chosen_and_no_figure_is_left_open(tmp_path):
    """Drawing and saving leave the user's backend and settings as they are."""
    code = """if True:
        import matplotlib, pandas
        matplotlib.rcParams["font.size"] = 23
        before = dict(matplotlib.rcParams)
        from ltgate import figures
        frame = pandas.DataFrame({"eta": [0.1, 0.2], "tau_ratio": 20, "accuracy": [0.5, 0.6]})
        fig = figures.save_figure(figures.grid_heatmap(frame), "OUT", "grid_heatmap")
        assert dict(matplotlib.rcParams) == before
        assert fig._repr_png_().startswith(b"\\x89PNG")
        from matplotlib import pyplot
        assert pyplot.get_fignums() == []
        print(matplotlib.get_backend())
    """.replace("OUT", str(tmp_path))
    assert run_python(code, MPLBACKEND="svg").strip() == "svg"


def test_a_failing_save_leaves_the_old_figure(tmp_path):
    class Broken:
        def savefig(self, path, **_):
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    path = tmp_path / "a.pdf"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        figures.save_figure(Broken(), tmp_path, "a")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.pdf"]


TABLE = pd.DataFrame(
    {
        "method": ["a|b", "c"],
        "seeds": [3, 1],
        "mean": [1 / 3, 1234567.0],
        "low": [-0.00001, np.nan],
    }
)


def test_show_rounds():
    shown = figures.show(TABLE)
    assert list(shown["mean"]) == ["0.333", "1,234,567"]
    assert list(shown["low"]) == ["0.000", ""]
    assert list(shown["seeds"]) == ["3", "1"]
    assert list(figures.show(TABLE, digits=1)["mean"]) == ["0.3", "1,234,567"]


def test_table_is_saved_as_csv_and_markdown(tmp_path):
    figures.save_table(TABLE, tmp_path, "table_main")
    assert sorted(os.listdir(tmp_path)) == ["table_main.csv", "table_main.md"]
    back = pd.read_csv(tmp_path / "table_main.csv")
    pd.testing.assert_frame_equal(back, TABLE, rtol=1e-9, atol=0)
    assert (tmp_path / "table_main.md").read_text() == (
        "| method | seeds | mean | low |\n"
        "| --- | --- | --- | --- |\n"
        "| a\\|b | 3 | 0.333 | 0.000 |\n"
        "| c | 1 | 1,234,567 |  |\n"
    )


def test_metadata_holds_no_time(tmp_path):
    save.save_figure(figures.grid_heatmap(grid_heatmap()), tmp_path, "a")
    assert b"CreationDate" not in (tmp_path / "a.pdf").read_bytes()


def test_a_table_in_a_notebook_is_whole_and_has_no_colours_of_its_own():
    long = pd.DataFrame({"a_name": ["a long source " * 10 + "<end>"] * 100, "value": 1.0})
    shown = figures.show(long)[["a_name", "value"]]
    page = shown._repr_html_()
    assert page.count("<tr>") == 101 and page.count("&lt;end&gt;") == 100
    assert "a_<wbr>name" in page and "color" not in page
    assert '<td style="text-align: right">1.000</td>' in page
    assert len(repr(shown).splitlines()) == 101
