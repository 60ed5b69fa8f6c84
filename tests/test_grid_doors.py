"""A grid file is data, and nobody else gets in: options, addresses, numbers without bound."""

from typing import Any

import pytest
from distributed import Client
from distributed.security import Security
from small_grid import small_grid

from ltgate import grid as package
from ltgate.errors import UserError
from ltgate.grid import clusters
from ltgate.params import Params

RUNS_CODE = {
    "preload": "import os; os._exit(3)",
    "preload_nanny": "import os; os._exit(3)",
    "host": "0.0.0.0",
    "dashboard_address": "0.0.0.0:0",
    "worker_class": "os.system",
    "job_script_prologue": ["touch mark"],
    "env": {"LD_PRELOAD": "mine.so"},
}


@pytest.mark.parametrize("cluster", ["local", "slurm", "tls://host:1"])
def test_options_are_a_list_of_known_names(tmp_path, cluster: str) -> None:
    for name, value in RUNS_CODE.items():
        with pytest.raises(UserError, match=f"options: '{name}': of cluster = '{cluster}'"):
            small_grid(tmp_path, params={"cluster": cluster}, options={name: value})


@pytest.mark.parametrize(
    "value", ["long\ntouch mark", "long; touch mark", "$(id)", True, ["a"], ""]
)
def test_an_option_is_a_number_or_a_word(tmp_path, value: Any) -> None:
    """It goes into a job's script."""
    with pytest.raises(UserError, match=r"options: queue = .*: must be a number or a word"):
        small_grid(tmp_path, params={"cluster": "slurm"}, options={"queue": value})


def test_what_a_queue_wants_to_know_may_be_given(tmp_path) -> None:
    options = {"queue": "long", "walltime": "01:00:00", "memory": "6GB", "cores": 2}
    assert small_grid(tmp_path, params={"cluster": "sge"}, options=options).file.options == options


def test_a_scheduler_without_tls_has_to_be_trusted(home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(clusters.TRUSTED, "tcp://127.0.0.1:2")
    grid = small_grid(home, params={"cluster": "tcp://127.0.0.1:1"})
    with pytest.raises(UserError, match="whoever answers there can run code here"):
        package.run(grid)


def test_workers_on_this_machine_take_tls_alone(home) -> None:
    grid = small_grid(home, params={"cluster": "local", "grid_workers": 1})
    with clusters.client(grid, 1) as client:
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert client.run(lambda: 42) != {}  # those who have the certificate are let in
        with pytest.raises((OSError, TimeoutError)):
            Client(client.scheduler.address.replace("tls", "tcp"), timeout=3)
        with pytest.raises((OSError, TimeoutError, ValueError)):
            Client(client.scheduler.address, security=Security.temporary(), timeout=3)


def test_a_job_cluster_has_certificates_of_its_own(home) -> None:
    made = clusters.job_cluster(Params(cluster="slurm"), {})
    try:
        assert "--protocol tls://" in made.job_script() and "--tls-key" in made.job_script()
    finally:
        made.close()


def test_a_grid_has_a_bounded_number_of_configurations(tmp_path) -> None:
    names = ("ridge", "eta", "weight_scale", "threshold")
    axes = {name: [0.1 + i / 1000 for i in range(100)] for name in names}
    with pytest.raises(UserError, match=r"axes: 1e\+08 configurations; allowed are 1000000"):
        small_grid(tmp_path, axes=axes)
