"""Memory: flat over 1,000 batches, no loader process left, estimates that hold."""

import multiprocessing
import tempfile
from pathlib import Path

import psutil

from soak.record import Failed, case

COMMAND = "python tests/soak memory"
BATCHES, EVERY = 1000, 100
WARM = 3  # hundreds of batches until all is allocated (least squares: 1,024 images)
GROWTH = 8 << 20  # bytes from then to the last batch


def trained(method: str, home: str, batches: int) -> list[int]:
    """Resident bytes after every hundred batches of one method."""
    import gc
    import os

    import torch

    from ltgate.data.store import batches as stream
    from ltgate.params import Params
    from ltgate.train import Trial

    os.environ |= {"LTGATE_HOME": home, "LTGATE_PROGRESS": "off"}
    torch.set_num_threads(1)
    params = Params(
        channels=[4, 8, 8], hidden=[16], train_images=0, validation_images=16, hebbian_images=16,
        batch_size=8, threads=1, device="cpu", workers=2 if method == "lt_gate" else 0,
    )  # fmt: skip
    trial = Trial(params, method, 0)
    learner, images, seen, found = trial.learner(), trial.open(1, "train"), 0, []
    learner.begin_task(0, images)
    while seen < batches:
        for batch in stream(images, params.batch_size, None, params.workers):
            learner.learn(images, batch)
            seen += 1
            if seen % EVERY == 0:
                gc.collect()
                found.append(psutil.Process().memory_info().rss)
    left = psutil.Process().children(recursive=True)
    alive = psutil.wait_procs(left, timeout=10)[1]
    if alive:
        raise Failed(f"{len(alive)} loader processes are left")
    return found


def _send(pipe, *arguments) -> None:
    try:
        pipe.send(trained(*arguments))
    except BaseException as error:
        pipe.send(error)


def run(scale: float = 1.0, seed: int = 0, only: str = "") -> None:
    """Every kind of learner."""
    batches = max((WARM + 2) * EVERY, round(BATCHES * scale))
    context = multiprocessing.get_context("spawn")
    for method in ("lt_gate", "lt_gate_published"):
        if only not in method:
            continue
        with case(f"memory: {method}", COMMAND) as row, tempfile.TemporaryDirectory() as folder:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_send, args=(theirs, method, str(Path(folder)), batches)
            )
            process.start()
            found = ours.recv() if ours.poll(1500) else Failed("no answer")
            process.join(60)
            if isinstance(found, BaseException):
                raise found
            growth = max(found[WARM:]) - found[WARM - 1]
            row["tried"] = f"{batches} batches"
            loaders = ", two loader processes, none left" if method == "lt_gate" else ""
            row["outcome"] = f"{growth / 1e6:+.1f} MB after the first {WARM * EVERY}{loaders}"
            if growth > GROWTH:
                raise Failed("memory grows")
