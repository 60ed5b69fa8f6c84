"""The study of timescales (notebook 07): its configurations, its result rows and its tables.

One parameter file says all of ``warp``; two further configurations follow from it: the same under
local rules alone, and ``two_scales``. What was found stands in ``docs/timescales.md``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ltgate import metrics, paths, results, statistics, train
from ltgate.errors import UserError
from ltgate.figures import style
from ltgate.methods import presets
from ltgate.network import groups_of
from ltgate.params import Params
from ltgate.train import Trial

GATES = ("gate_quieter", "gate_teacher", "gate_static", "gate_oracle")  # set once, per neuron
SIZES = ("train_images", "validation_images", "test_images")


def parameters(params: Params) -> Params:
    """``params`` if they are of streams, else the file ``timescales`` with their name and sizes.

    A size of 0 is the file's own.
    """
    if params.source == "warp":
        return params
    sizes = {name: getattr(params, name) for name in SIZES if getattr(params, name)}
    return Params.load(params.timescales, name=params.name, **sizes)


def local(params: Params) -> Params:
    """By local rules alone: a delta rule on each neuron's deviation from its mean count."""
    return params.with_(readout="delta", standardise_counts=True, readout_rate=3.0, epochs=20)


def two_scales(params: Params) -> Params:
    """A fast and a slow pattern in one sample; every neuron sees channels of one of them."""
    both = {"name": "both", "classes": list(range(params.scales_classes**2))}
    both |= {"frame_rate_hz": 1000.0, "duration_ms": float(params.scales_frames)}
    return params.with_(
        source="two_scales",
        tasks=[both],
        other_rates=[],
        fan_in_groups=2,
        pairs_of=params.scales_classes,
        methods=[*(name for name in params.methods if not name.startswith("gate_")), *GATES],
    )


def controls(params: Params) -> dict[str, Params]:
    """Configurations that show what the tasks are not, where the parameters ask for controls."""
    if not params.control:
        return {}
    shuffled = {"shuffled_frames": True, "control": False, "methods": ["tau_100", "gate_layer"]}
    equal = {"scales_repeats": 2, "scales_noise_fast": 0.0, "scales_noise_slow": 2 / 3}
    both = two_scales(params).with_(**equal, methods=["tau_20", *GATES])  # 2 events a channel
    return {"warp, frames shuffled": params.with_(**shuffled), "two scales, equal rates": both}


def learned(params: Params) -> dict[str, Params]:
    """Neurons that see every channel: filters as drawn, learned locally, or trained by gradients.

    What a filter learns of the first task is chosen in ``params/tuning_streams.csv``.
    """
    timescales = ["tau_100", "gate_layer"]
    drawn = params.with_(
        fan_in=0, control=False, other_rates=[params.tasks[-1].frame_rate_hz],
        methods=timescales, head_rate=0.1,
    )  # fmt: skip
    hebbian = drawn.with_(filters="first", filter_taus_ms=[20.0, 100.0])
    return {
        "random": drawn.with_(methods=[*timescales, "surrogate", "hlop_streams"]),
        "learned": hebbian,
        "random, local rules": local(drawn),
        "learned, local rules": local(hebbian),
    }


def delayed(params: Params) -> dict[str, Params]:
    """A cue, a silence and a probe, and the same without the silence."""
    singles = [f"tau_{tau}" for tau in presets.SINGLE]
    methods = [*singles, "tau_of_rate", "either", "gate_layer", "gate_three"]
    task = {"name": "delayed", "classes": [0, 1], "frame_rate_hz": 1000.0}
    found = {}
    for shortest, longest in ((params.delayed_shortest, params.delayed_longest), (0, 0)):
        task["duration_ms"] = float(4 * params.delayed_width + longest)
        found[f"{shortest} to {longest}"] = params.with_(
            source="delayed", delayed_shortest=shortest, delayed_longest=longest, tasks=[task],
            other_rates=[], methods=methods,
        )  # fmt: skip
    return found


def further(params: Params) -> dict[str, pd.DataFrame]:
    """``table_learned`` and ``table_delayed``, where the parameters ask for controls."""
    if not params.control:
        return {}
    parts = {"table_learned": ("filters", learned), "table_delayed": ("silence, ms", delayed)}
    found = {}
    for name, (by, made) in parts.items():
        tables = {label: table(rows(p), p) for label, p in made(params).items()}
        found[name] = pd.concat(tables, names=[by]).reset_index(by).fillna("")
    return found


def rows(params: Params) -> pd.DataFrame:
    """Result rows of every method and seed, trained and tested where that is not done yet."""
    train.run(params)
    return results.choose(results.load(paths.run(params.name)), config=params.hash)


def trial(params: Params, method: str) -> Trial:
    """The method's trial with the first seed."""
    return Trial(params, method, params.seeds[0])


def neuron_gates(params: Params) -> pd.DataFrame:
    """Every first-layer neuron's gate after the last task, beside the truth (``fan_in_groups``: 2).

    Columns: method, seed, neuron, gate (weight of the fast membrane), truth.
    """
    frames = []
    for method in GATES:
        one = trial(params, method)
        learner = one.restore(f"task{len(one.tasks) - 1}.safetensors")
        gate = learner.network.layers[0].gate.cpu().numpy()
        found = {"method": method, "seed": one.seed, "neuron": np.arange(len(gate))}
        truth = (groups_of(len(gate), 2) == 0).astype(float)
        frames.append(pd.DataFrame({**found, "gate": gate, "truth": truth}))
    return pd.concat(frames, ignore_index=True)


def at_speeds(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Accuracy at every tested speed after the first task, as :func:`figures.robustness` takes it.

    Mean over seeds and 95 % t interval, like ``table_robustness``.
    """
    lines = []
    for method in params.methods:
        for rate in params.other_rates:
            found = _first_at(rows[rows["method"] == method], rate)
            setting = method, params.tasks[0].frame_rate_hz, rate, "frame"
            lines.append((*setting, *metrics.mean_interval(found["value"])))
    columns = ["method", "trained_hz", "tested_hz", "presentation", "mean", "ci_low", "ci_high"]
    return pd.DataFrame(lines, columns=columns)


def _first_at(rows: pd.DataFrame, rate: float) -> pd.DataFrame:
    """Accuracies at a frame rate (Hz) after the first task."""
    asked = {"metric": f"accuracy/{rate:g}Hz/frame", "step": 0, "cue": "yes"}
    return results.choose(rows, **asked)


def best_single(rows: pd.DataFrame) -> str:
    """The method with one membrane, ``tau_<ms>``, that is best on validation images at the end."""
    known = rows["method"].str.fullmatch(r"tau_\d+") & (rows["cue"] == "yes")
    points = rows[known & (rows["metric"] == "curve_accuracy")]
    last = points[points["step"] == points.groupby(["method", "seed"])["step"].transform("max")]
    if last.empty:
        raise UserError("no method tau_<ms> in these rows: needed is one membrane to compare with")
    return last.groupby("method", sort=False)["value"].mean().idxmax()


def table(rows: pd.DataFrame, params: Params) -> pd.DataFrame:
    """``table_timescales``: one row a method, against the best single time constant.

    ACC and forgetting, accuracy at the last task's speed before it was learned, the difference in
    ACC from :func:`best_single` with its 95 % interval over seeds and its p value (paired t test,
    Holm-corrected over the methods), spikes of all layers a sample, learner state.
    """
    rows = rows[rows["cue"] == "yes"]
    values, best = results.by_seed(rows, params), best_single(rows)
    label = f"more than {style.method(best)[0]}, points"
    unlearned = _first_at(rows, params.tasks[-1].frame_rate_hz)
    values = values[values["scenario"] != "task"]
    values = pd.concat([values, unlearned.assign(metric="unlearned")])
    tests = statistics.compare(values, best, ("acc",)).set_index("against")
    lines = []
    for method in params.methods:
        own = values[values["method"] == method].groupby("metric")["value"].agg(list)
        if own.empty:
            continue
        line = {"method": style.method(method)[0], "ACC, %": _percent(own.get("acc"))}
        if len(params.tasks) > 1:
            line["forgetting, points"] = _percent(own.get("forgetting"))
            line["last speed unlearned, %"] = _percent(own.get("unlearned"))
        if len(tests):  # of several seeds
            line[label] = line["p"] = ""
        if method in tests.index:
            test = -100 * tests.loc[method, ["difference", "ci_high", "ci_low"]].astype(float)
            line[label] = "{:+.1f} ({:+.1f} to {:+.1f})".format(*test)
            line["p"] = f"{tests.loc[method, 'p_corrected']:.1g}"
        line["spikes"] = f"{np.mean(own['spikes_per_sample']):,.0f}"
        line["state, kB"] = f"{np.mean(own['state_bytes']) / 1e3:,.0f}"
        line["seeds"] = len(own["acc"])
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def table_gate(ridge: pd.DataFrame, own: pd.DataFrame, params: Params) -> pd.DataFrame:
    """``table_gate``: the point of the study in five rows, of :func:`table` under both readouts.

    ``ridge`` and ``own`` are result rows of ``params`` and of :func:`local`.
    """
    shown = (best_single(ridge), "tau_of_rate", "either", "gate_quieter", "gate_layer")
    some = params.with_(methods=[name for name in shown if name in params.methods])
    both = table(ridge, some), table(own, local(some))
    return pd.DataFrame(
        {
            "timescale": both[0]["method"],
            "accuracy, ridge readout, %": both[0]["ACC, %"],
            "accuracy, local rules, %": both[1]["ACC, %"],
            "forgotten, local rules, points": both[1]["forgetting, points"],
        }
    )


def table_controls(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """ACC in percent of every method of ``table_main`` frames, by what they are a control of."""
    lines = []
    for name, table in tables.items():
        for _, row in table[(table["metric"] == "acc") & (table["scenario"] != "task")].iterrows():
            accuracy = style.interval(row["mean"], row["ci_low"], row["ci_high"])
            label = style.method(row["method"])[0]
            lines.append({"control": name, "method": label, "ACC, %": accuracy})
    return pd.DataFrame(lines, columns=["control", "method", "ACC, %"])


def _percent(values: Sequence[float] | None) -> str:
    """Mean and half width of the 95 % interval over seeds, in percent."""
    return "" if values is None else style.interval(*metrics.mean_interval(values))
