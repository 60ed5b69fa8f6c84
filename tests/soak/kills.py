"""SIGKILL at random moments; no file under a final name may be partial or stale.

Every round starts in a fresh folder. A stage is killed a few times, each time after a random part
of what it takes undisturbed; after each kill all files are looked at; then it runs to its end, and
the results must be those of a run that nobody disturbed, byte for byte.
"""

import hashlib
import http.server
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

from ltgate import checkpoint
from ltgate.data import sources, task_file
from ltgate.files import TEMPORARY
from soak import stages
from soak.record import Failed, case

# Stage -> kills of the whole soak, kills in a round.
PLAN = {
    "download": (42, 6),
    "HDF5 build": (40, 5),
    "training:lt_gate": (16, 4),
    "training:sequential": (12, 4),
    "training:joint": (8, 4),
    "training:lt_gate_published": (12, 4),
    "checkpoint": (40, 10),
    "grid": (16, 4),
    "figures": (16, 4),
    "notebooks:01": (6, 3),
    "notebooks:02,03": (6, 3),
}
# Made anew in every run: compared for being whole only.
LOOSE = {".safetensors", ".json", ".ipynb", ".lock", ".yaml"}


class Soak:
    """Kills of one stage after the other in folders under ``top``."""

    def __init__(self, top: Path, seed: int = 0) -> None:
        self.top, self.moments = top, random.Random(seed)
        self.kills, self.rounds, self.files = 0, 0, 0
        forkserver.set_forkserver_preload(["ltgate.perf", "soak.stages"])
        self._process(abs, 0).join()  # the server is ready

    def stage(self, stage: str, kills: int, at_once: int) -> int:
        """Kill a stage until ``kills`` have hit it; how many did."""
        whole = self._home(stage, "whole")
        seconds = self._finish(stage, whole)
        expected, hit = self._content(whole), 0
        while hit < kills:
            self.rounds += 1
            home = self._home(stage, f"broken-{self.rounds}")
            for _ in range(at_once):
                process = self._start(stage, home)
                process.join(self.moments.uniform(0.02, 0.9) * seconds)
                process.kill()
                process.join()
                hit += process.exitcode == -signal.SIGKILL
                self._whole(home, expected)
                if process.exitcode not in (-signal.SIGKILL, 0):
                    raise Failed(f"{stage}: ended with {process.exitcode} in {home}")
                if process.exitcode == 0:
                    break
            self._finish(stage, home)
            self._whole(home, expected, finished=True)
            shutil.rmtree(home)
        self.kills += hit
        return hit

    def _home(self, stage: str, kind: str) -> Path:
        """A folder that is called ``home`` wherever it is: some files hold their path."""
        home = self.top / stage.replace(":", "-").replace(",", "-") / "home"
        kept = home.with_name(kind)
        kept.mkdir(parents=True)
        if home.is_symlink():
            home.unlink()
        home.symlink_to(kept)
        (home.parent / stages.FORGED).write_text(getattr(self, "hashes", ""))
        stages_process = self._process(_prepare, stage.partition(":")[0], str(home))
        stages_process.join()
        return kept

    def _start(self, stage: str, home: Path) -> multiprocessing.Process:
        return self._process(stages.work, stage, str(home.parent / "home"))

    def _process(self, target: Callable, *arguments: object) -> multiprocessing.Process:
        process = multiprocessing.get_context("forkserver").Process(target=target, args=arguments)
        process.start()
        return process

    def _finish(self, stage: str, home: Path) -> float:
        began = time.monotonic()
        process = self._start(stage, home)
        process.join(600)
        if process.exitcode != 0:
            process.kill()
            raise Failed(f"{stage}: ended with {process.exitcode} in {home}")
        return time.monotonic() - began

    def _content(self, home: Path) -> dict[str, str]:
        return {
            str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in _files(home)
            if path.suffix not in LOOSE
        }

    def _whole(self, home: Path, expected: dict[str, str], finished: bool = False) -> None:
        """Every file under a final name is whole and, where that can be, as undisturbed."""
        for path in _files(home):
            self.files += 1
            if path.suffix == ".safetensors":
                checkpoint.load(path)  # compares its checksum
            elif path.suffix in (".json", ".ipynb"):
                json.loads(path.read_text())
            elif path.suffix == ".h5":
                task_file.checked(path)
        found = self._content(home)
        for name, digest in found.items():
            if expected.get(name) != digest:
                raise Failed(f"{home / name} is not as in an undisturbed run")
        if finished and found != expected:
            raise Failed(f"{home}: {sorted(set(expected) - set(found))} are missing")


def _prepare(stage: str, home: str) -> None:
    os.environ["LTGATE_HOME"] = home
    stages.prepare(stage, Path(home))


def _files(home: Path) -> list[Path]:
    return [
        path
        for path in sorted(home.rglob("*"))
        if path.is_file() and f"/{TEMPORARY}" not in str(path) and path.suffix != ".lock"
        and path.name != ".lock"
    ]  # fmt: skip


class Slow(http.server.BaseHTTPRequestHandler):
    """Serves the files of ``folder`` in small pieces."""

    folder: Path

    def do_GET(self) -> None:
        content = (self.folder / Path(self.path).name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        piece = max(1, len(content) // 20)
        try:
            for begin in range(0, len(content), piece):
                self.wfile.write(content[begin : begin + piece])
                time.sleep(0.005)
        except OSError:  # the other side was killed
            pass

    def log_message(self, *_: object) -> None:
        pass


def slow_mirror(top: Path) -> tuple[str, str]:
    """Address of a server of files that stand in for MNIST, and their names and hashes."""
    folder = top / "mirror"
    stages.images(folder, 2000)
    hashes = [f"{n} {sources.idx.read(folder / f'{n}.gz')[1]}" for n in sources.MNIST_SHA256]
    handler = type("Handler", (Slow,), {"folder": folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/", "\n".join(hashes)


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """All stages of :data:`PLAN`, each with its number of kills times ``scale``."""
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), seed)
        mirror, soak.hashes = slow_mirror(Path(folder))
        for stage, (kills, at_once) in PLAN.items():
            if only and only not in stage:
                continue
            command = f"python tests/soak kills --only {stage.partition(':')[0].split()[0]}"
            name = f"SIGKILL: {stage.replace(':', ' ')}"
            with case(name, command) as row:
                before = soak.files
                exact = f"{stage}:{mirror}" if stage == "download" else stage
                hit = soak.stage(exact, max(1, round(kills * scale)), at_once)
                row["tried"] = f"{hit} kills"
                row["outcome"] = (
                    f"{soak.files - before} files looked at, none partial or stale; reruns end "
                    "with the same bytes"
                )
