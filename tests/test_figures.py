"""Every figure is drawn, saved in both formats, the same each time, and shows its data."""

import itertools
import os

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from processes import run_python

from ltgate import figures
from ltgate.errors import UserError
from ltgate.figures import style

METHODS = list(style.METHODS)[:11]  # those of still images
SOME = METHODS[::3]
TASKS = ("fast", "slow")


def every(*given: dict, **axes) -> pd.DataFrame:
    """A row for every combination; a function ``given`` for a column gets the frame so far."""
    frame = pd.DataFrame(itertools.product(*axes.values()), columns=list(axes))
    return frame.assign(**{name: make for one in given for name, make in one.items()})


def noise(low=0.0, high=1.0):
    random = np.random.default_rng(0)
    return lambda frame: random.uniform(low, high, len(frame))


def tasks_and_frames() -> pd.DataFrame:
    frame = every(task=TASKS, label=range(5))
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (28, 28), dtype=np.uint8) for _ in frame.index]
    shown = {"fast": np.arange(200.0), "slow": np.arange(20) * 20.0}
    times = frame["task"].map(shown)
    return frame.assign(image=images, time_ms=times, drive=times.map(np.ones_like))


def membrane_traces() -> pd.DataFrame:
    rows = []
    for task, dt, steps in (("fast", 1.0, 200), ("slow", 20.0, 20)):
        for compartment, tau in (("fast", 5.0), ("slow", 100.0)):
            membrane, decay = 0.0, np.exp(-dt / tau)
            for t in range(steps):
                before = decay * membrane + (1 - decay) * 0.7
                spike = int(before >= 0.5)
                membrane = before - 0.5 * spike
                rows.append((task, compartment, t * dt, before, membrane, decay, 0.5, spike))
    columns = ["task", "compartment", "time_ms", "before", "membrane", "decay", "threshold"]
    return pd.DataFrame(rows, columns=[*columns, "spike"])


def learning_curves() -> pd.DataFrame:
    frame = every(method=SOME, seed=range(3), batch=range(0, 1201, 100), task=TASKS)
    return frame.assign(accuracy=noise(0.3), boundary=600)


def spike_rates_and_gates() -> pd.DataFrame:
    frame = every(layer=("conv1", "conv2"), when=("fast task", "slow task"), compartment=TASKS)
    return frame.assign(rate=noise(0.02, 0.08), gate=noise(0.2, 0.8))


def r_heatmap() -> pd.DataFrame:
    frame = every(method=SOME[::-1], step=range(2), task=TASKS).assign(accuracy=noise(0.2))
    return frame[(frame["step"] == 1) | (frame["task"] == "fast")]


def confusion() -> pd.DataFrame:
    frame = every(method=METHODS[:2], truth=range(10), told=range(10))
    return frame.assign(share=lambda f: np.where(f["truth"] == f["told"], 0.91, 0.01))


def acc_forgetting_bars() -> pd.DataFrame:
    frame = every(method=SOME, cue=("yes", "no"), metric=("acc", "forgetting"))
    means = np.where(frame["metric"] == "acc", 0.9, 0.05) + np.arange(len(frame)) / 1000
    frame = frame.assign(mean=means, ci_low=means - 0.02, ci_high=means + 0.02, paper=np.nan)
    frame = frame.assign(scenario="class", sequence="fast>slow", seeds=3, train_images=48_000)
    frame.loc[(frame["method"] == "lt_gate") & (frame["cue"] == "yes"), "paper"] = [0.51, 0.032]
    return frame


def ablations() -> pd.DataFrame:
    main = acc_forgetting_bars()
    one = main[(main["method"] == "lt_gate") & (main["cue"] == "yes")]
    names = [*list(style.VARIANTS)[:8], "mine"]
    return pd.concat(
        [one.assign(variant=x, mean=one["mean"] - n / 99) for n, x in enumerate(names)]
    )


def grid_heatmap() -> pd.DataFrame:
    accuracy = {"accuracy": lambda f: 0.9 + 5 * f["eta"] + f["tau_ratio"] / 1000}
    return every(accuracy, eta=(0.002, 0.005), tau_ratio=(20, 50))


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
    frame = every(sweep=powers, x=(1, 2, 4, 8), quantity=("time", "memory"))
    time = frame["quantity"] == "time"
    k = frame["sweep"].map(powers).where(time, 0)
    value = 0.02 * frame["x"] ** k * np.where(time, 1, 1000)
    return frame.assign(value=value, unit=np.where(time, "s", "MB"), exponent=k)


def robustness() -> pd.DataFrame:
    frame = every(
        method=METHODS[:5],
        trained_hz=(1000.0, 50.0),
        presentation=("frame", "pulse"),
        tested_hz=(25, 50, 100, 200, 500, 1000),
    )
    mean = noise(0.7, 0.99)(frame)
    return frame.assign(mean=mean, ci_low=mean - 0.02, ci_high=mean + 0.02)


def loihi_cores() -> pd.DataFrame:
    layers = ["input"] * 2 + ["conv1"] * 20 + ["conv2"] * 9 + ["margin"] * 8 + [""] * 89
    frame = pd.DataFrame({"core": range(128), "layer": layers, "used": 0.6})
    return frame.assign(row=frame["core"] // 16, column=frame["core"] % 16)


def loihi_energy() -> pd.DataFrame:
    parts = ("synops", "updates", "traffic")
    return every({"joules": 1e-4}, task=TASKS, layer=("conv1", "conv2"), part=parts)


def loihi_ranges() -> pd.DataFrame:
    ends = {"low": 1e-3, "high": 4e-3}
    return every(ends, quantity=("dynamic energy", "total energy", "latency"), task=TASKS)


def loihi_accuracy() -> pd.DataFrame:
    trained, kinds = ("full precision", "chip-aware"), ("float", "integers")
    return every({"accuracy": 0.97}, trained=trained, runs_as=kinds, task=TASKS)


def loihi_front() -> pd.DataFrame:
    frame = every({"target_rate": 0.02}, chip_bits=(4, 8), chip_input=("direct", "differences"))
    cheap = frame["chip_input"] == "differences"
    joules = 1e-4 * frame["chip_bits"] * np.where(cheap, 1, 2)
    return frame.assign(joules=joules, accuracy=0.9 + 0.01 * frame["chip_bits"], front=cheap)


def loihi_learning() -> pd.DataFrame:
    rise = {"accuracy": lambda frame: frame["samples"] / 100}
    return every(rise, rule=("chip", "library"), samples=(0, 20, 40), task=TASKS)


def event_raster() -> pd.DataFrame:
    frame = every(task=TASKS, label=range(2), frame=range(16))
    clock = frame["task"].map({"fast": 1.0, "slow": 20.0})
    return frame.assign(time_ms=clock * frame["frame"], channel=frame["frame"] % 7)


def gates_in_time() -> pd.DataFrame:
    return every(
        {"median": 0.5, "low": 0.4, "high": 0.6}, task=TASKS, compartment=TASKS, frame=range(9)
    )


def neuron_gates() -> pd.DataFrame:
    frame = every({"gate": noise()}, method=("gate_quieter", "gate_oracle"), neuron=range(64))
    return frame.assign(truth=(frame["neuron"] < 32).astype(float))


def learned_filters() -> pd.DataFrame:
    frame = every(compartment=TASKS, filter=range(8))
    return frame.assign(weights=[np.full((3, 3), n) for n in frame["filter"]])


def network_diagram() -> pd.DataFrame:
    taus = {"fast": 5.0, "slow": 100.0}
    rows = [
        ("input", (1, 28, 28), 0, taus, "either", ""),
        ("conv1", (4, 14, 14), 784, taus, "either", "counts"),
    ]
    return pd.DataFrame(
        rows, columns=["layer", "shape", "neurons", "compartments", "spike", "read"]
    )


def embedding() -> pd.DataFrame:
    return every({"first": noise(), "second": noise()}, task=TASKS, label=range(10))


EXAMPLES = {producer: globals()[producer.__name__] for producer in figures.FIGURES}


@pytest.mark.parametrize("producer", figures.FIGURES, ids=lambda f: f.__name__)
def test_a_figure_of_every_producer(producer, tmp_path):
    """All formats, the same bytes each time; labels, a laptop's size; the frame as it was.

    No frame without a needed column, none that is empty.
    """
    name, frame = producer.__name__, EXAMPLES[producer]()
    before = frame.copy(deep=True)
    for folder in ("first", "second"):
        fig = producer(frame)
        assert figures.save_figure(fig, tmp_path / folder, name) is fig
    pd.testing.assert_frame_equal(frame, before)
    begins = {"pdf": b"%PDF", "png": b"\x89PNG"} | ({"gif": b"GIF89a"} if fig.moments else {})
    assert sorted(os.listdir(tmp_path / "first")) == sorted(f"{name}.{x}" for x in begins)
    for suffix, begin in begins.items():
        first, second = (
            (tmp_path / x / f"{name}.{suffix}").read_bytes() for x in ("first", "second")
        )
        assert first.startswith(begin) and first == second and b"CreationDate" not in first
    width, height = fig.get_size_inches()
    assert 3 <= width <= 11 and 2 <= height <= 8
    labels = [label for a in fig.axes for label in (a.get_xlabel(), a.get_ylabel()) if label]
    labels += [label for label in (fig.get_supxlabel(), fig.get_supylabel()) if label]
    assert len(labels) >= 2
    for column in producer.columns:
        with pytest.raises(UserError, match=f"^{name}: column '{column}' is missing"):
            producer(frame.drop(columns=column))
    with pytest.raises(UserError, match=f"^{name}: the frame is empty"):
        producer(frame.iloc[:0])


def test_learning_curves_show_means_and_the_boundary():
    frame = learning_curves()
    frame = frame[frame["method"] == SOME[-1]]
    fast = figures.learning_curves(frame).axes[0]
    curve, boundary = fast.lines
    expected = frame[frame["task"] == "fast"].groupby("batch")["accuracy"].mean()
    np.testing.assert_allclose(curve.get_ydata(), expected)
    assert list(boundary.get_xdata()) == [600, 600]
    joint = figures.learning_curves(frame.assign(boundary=np.nan)).axes[0]
    assert len(joint.lines) == 1


def test_matrices_are_in_percent_in_the_one_order_of_methods():
    """R averages seeds and leaves later tasks blank."""
    rows = [("joint", 0, "b", 0.8), ("joint", 0, "b", 0.6), ("joint", 1, "b", 0.5)]
    rows += [("joint", 1, "a", 0.9)]
    frame = pd.DataFrame(rows, columns=["method", "step", "task", "accuracy"])
    axis = figures.r_heatmap(frame).axes[0]
    assert [text.get_text() for text in axis.texts if text.get_text()] == ["70.0", "50.0", "90.0"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["after b", "after a"]
    titles = [axis.get_title() for axis in figures.r_heatmap(r_heatmap()).axes[:4]]
    assert titles == [style.method(name)[0] for name in SOME]
    cells = [text.get_text() for text in figures.confusion(confusion()).axes[0].texts]
    assert len(cells) == 100 and cells[:2] == ["91", "1"] and cells[11] == "91"


def lines(axis, **look) -> list[list[float]]:
    """Abscissae of the lines that look so."""
    found = [x for x in axis.lines if all(getattr(x, f"get_{k}")() == v for k, v in look.items())]
    return [list(line.get_xdata()) for line in found]


def test_dots_show_means_intervals_and_the_papers_value():
    """Within what is possible; an axis is broken where most of it would be empty."""
    frame = acc_forgetting_bars()
    frame = frame[(frame["method"] == "lt_gate") & (frame["cue"] == "yes")]
    row = frame.iloc[0]
    fig = figures.acc_forgetting_bars(frame.assign(ci_high=1.5))
    low, high, forgetting = fig.axes
    assert low.get_xlim()[0] < 0.51 < low.get_xlim()[1] < high.get_xlim()[0] < row["mean"]
    for part in (low, high):
        assert lines(part, marker="D")[0] == [0.51] and [row["mean"]] in lines(part, marker="o")
        assert [row["ci_low"], 1.0] in lines(part, marker="None")
    assert lines(forgetting, marker="D")[0] == [0.032]
    assert "\n".join(x.get_text() for x in fig.legends[0].get_texts()).count("95 % interval")
    one = figures.acc_forgetting_bars(frame.assign(ci_low=np.nan, ci_high=np.nan, paper=np.nan))
    assert len(one.axes) == 2  # one seed has no interval, and nothing is far away
    assert [text.get_text() for text in one.legends[0].get_texts()] == ["with the timescale cue"]


@pytest.mark.parametrize(("column", "value"), [("sequence", "slow>fast"), ("train_images", 10)])
def test_dots_never_mix_settings(column, value):
    frame = acc_forgetting_bars()
    mixed = pd.concat([frame, frame.assign(**{column: value})])
    with pytest.raises(UserError, match=f"2 values of {column}"):
        figures.acc_forgetting_bars(mixed)
    with pytest.raises(UserError, match="scenario 'task'; there: class"):
        figures.acc_forgetting_bars(frame, scenario="task")


def test_ablations_are_words_with_the_control_beside():
    both = pd.concat([ablations(), ablations().assign(cue="no", mean=0.25)])
    alone, beside = (figures.ablations(frame).axes[0] for frame in (ablations(), both))
    assert lines(beside, marker="o", markerfacecolor="white") == [[0.25]] * 9
    assert len(lines(beside, marker="o")) == 18
    assert not lines(alone, marker="o", markerfacecolor="white")
    names = [label.get_text() for label in alone.get_yticklabels()]
    assert names[:2] == ["LT-Gate", "5 and 50 ms"] and names[-1] == "mine"


def test_grid_cells_show_the_interval_over_seeds_and_the_best_is_framed():
    seeds = pd.concat([grid_heatmap(), grid_heatmap().assign(accuracy=0.5)])
    axis = figures.grid_heatmap(seeds).axes[0]
    mean = (0.5 + 0.9 + 5 * 0.002 + 0.02) / 2
    half = 12.7062 * (0.43 / 2) * np.sqrt(2) / np.sqrt(2)  # t with one degree of freedom
    assert axis.texts[0].get_text() == f"{100 * mean:.1f}\n± {100 * half:.1f}"
    assert axis.patches[0].get_xy() == (1, 1)  # tau_ratio 50, eta 0.005
    assert figures.grid_heatmap(grid_heatmap()).axes[0].texts[0].get_text() == "93.0"
    other = seeds.rename(columns={"eta": "threshold"}).assign(tau_ratio="a")
    axis = figures.grid_heatmap(other, y="threshold").axes[0]
    assert axis.get_ylabel() == "threshold" and axis.get_xticklabels()[0].get_text() == "a"
    with pytest.raises(UserError, match="column 'eta' is missing"):
        figures.grid_heatmap(other)
    with pytest.raises(UserError, match="no number"):
        figures.grid_heatmap(grid_heatmap().assign(accuracy=np.nan))


def test_slices_show_every_configuration_and_the_best_of_each_value():
    eta, gate, *_ = figures.grid_slices(grid_slices()).axes
    points, best = eta.lines
    assert list(points.get_xdata()) == [0.01, 0.1, 0.1, 1.0] and eta.get_xscale() == "log"
    assert list(best.get_ydata()) == pytest.approx([0.5, 0.7, 0.8])
    assert [label.get_text() for label in gate.get_xticklabels()] == ["select", "blend"]
    assert list(gate.lines[1].get_ydata()) == pytest.approx([0.7, 0.8])


def test_membranes_decay_between_steps_and_fall_by_their_reset():
    """A step's path: up to the membrane before the reset, down, then an exponential decay."""
    frame = membrane_traces()
    fig = figures.membrane_traces(frame)
    trace = frame[(frame["task"] == "slow") & (frame["compartment"] == "fast")]
    x, y = fig.axes[1].lines[0].get_data()
    assert x[:2].tolist() == [0, 0] and x[9] == x[10] == 20  # of the first step, then of the next
    assert y[0] == trace["before"].iloc[0] and y[1] == trace["membrane"].iloc[0]
    assert y[5] == pytest.approx(y[1] * np.exp(-10 / 5)) and y[9] == pytest.approx(
        y[1] * np.exp(-4)
    )
    assert fig.axes[1].get_title() == f"slow task, fast compartment (spikes: {trace.spike.sum()})"


def test_a_raster_runs_in_real_time_and_ends_whole(tmp_path):
    fig = figures.event_raster(event_raster())  # 16 frames: 15 ms, or 300 ms
    shown = []
    for moment in fig.moments:
        moment()
        shown.append([len(axis.lines[0].get_xdata()) for axis in fig.axes[:2]])
    assert shown == [[16, 6], [16, 11], [16, 16]]
    figures.save_figure(fig, tmp_path, "a")
    with Image.open(tmp_path / "a.gif") as saved:
        assert saved.n_frames == 3


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
    tops = [
        band.get_paths()[0].vertices[:, 1].max() for axis in fig.axes for band in axis.collections
    ]
    assert max(tops) <= 1


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


def test_a_colour_is_a_compartment_or_a_method_and_no_task():
    assert len({style.method(name)[1] for name in METHODS}) == len(METHODS)
    assert style.method("new_one")[0] == "new_one"
    assert style.ordered(["mine", "joint", "yours", "lt_gate"]) == [
        "lt_gate",
        "joint",
        "mine",
        "yours",
    ]
    rates = figures.spike_rates_and_gates(spike_rates_and_gates())
    assert [bar.get_label() for bar in rates.axes[0].containers] == [
        f"{x} compartment" for x in TASKS
    ]
    for axis in rates.axes:
        drawn = [to_hex(bars[0].get_facecolor()).upper() for bars in axis.containers]
        assert drawn == [style.COMPARTMENTS[x] for x in TASKS]
    assert not set(style.SERIES) & set(style.COMPARTMENTS.values())


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


TABLE = pd.DataFrame(
    {
        "a_method": ["a|b", "<c>"],
        "seeds": [3, 1],
        "mean": [1 / 3, 1234567.0],
        "low": [-0.00001, np.nan],
    }
)


def test_a_table_is_rounded_for_readers_and_saved_whole(tmp_path):
    """As text, as Markdown, as CSV; in a notebook whole, without colours of its own."""
    shown = figures.save_table(TABLE, tmp_path, "table_main")
    assert list(shown["mean"]) == ["0.333", "1,234,567"]
    assert list(shown["low"]) == ["0.000", ""] and list(shown["seeds"]) == ["3", "1"]
    assert list(figures.show(TABLE, digits=1)["mean"]) == ["0.3", "1,234,567"]
    assert sorted(os.listdir(tmp_path)) == ["table_main.csv", "table_main.md"]
    back = pd.read_csv(tmp_path / "table_main.csv")
    pd.testing.assert_frame_equal(back, TABLE, rtol=1e-9, atol=0)
    assert (tmp_path / "table_main.md").read_text() == (
        "| a_method | seeds | mean | low |\n"
        "| --- | --- | --- | --- |\n"
        "| a\\|b | 3 | 0.333 | 0.000 |\n"
        "| <c> | 1 | 1,234,567 |  |\n"
    )
    long = pd.concat([figures.show(TABLE)] * 50)[["a_method", "mean"]]
    page = long._repr_html_()
    assert page.count("<tr>") == 101 and page.count("&lt;c&gt;") == 50
    assert "a_<wbr>method" in page and "color" not in page
    assert '<td style="text-align: right">0.333</td>' in page
    assert len(repr(long).splitlines()) == 101
