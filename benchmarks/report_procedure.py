"""The report's procedure, written plainly on AIMET, against ``bitladder run`` on the same work.

The procedure trains every cell from the start, as the report did, and takes PyTorch's own number
of threads. Both train, equalize, calibrate, fine-tune and evaluate the same networks on the same
images for the same steps; bitladder exports its networks, too. Bias correction is left out of
both, as AIMET has it no more.

python benchmarks/report_procedure.py [--steps 40] [--images 1000] [--models ...] [--threads 1]

With --threads the procedure gets fewer threads than it takes of its own: on a busy machine two
threads wait for each other, and one takes the least processor time.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from measure import CLASSES, TASK, aimet, arguments, machine, print_table
from torch import nn

from bitladder import data, models, training
from bitladder.options import DatasetOptions, LoaderOptions, ModelOptions

_BITS = (8, 6, 4)
_BATCH = 256
_COMMAND = "from bitladder.cli import main; main()"
_STUDY = """
name: procedure
datasets: [embedded]
models: {models}
precisions: {bits}
train: {{steps: {steps}, lr: 2.0e-3}}
recipe:
  - fold_batch_norm
  - relu6_to_relu
  - cross_layer_equalization
  - high_bias_fold
  - calibrate: {{images: {images}, outputs: method}}
  - finetune: {{steps: {tuning}, distill: 0.0}}
verify: []
"""


def train(model: nn.Module, split: data.Split, steps: int, lr: float) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1)
    model.train()
    epochs = itertools.repeat(split.batches(_BATCH, shuffle_seed=0))
    for images, labels in itertools.islice(itertools.chain.from_iterable(epochs), steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    model.eval()


def cell(name: str, bits: int, loaded: data.ImageData, steps: int, images: int) -> None:
    """One cell of the report: train, fold, swap, equalize, calibrate, fine-tune, evaluate."""
    model = models.build(ModelOptions(name=name), classes=CLASSES, shapes=loaded.shapes, seed=0)
    train(model, loaded.train, steps, 2e-3)
    training.evaluate(model, loaded.validation.batches(250), TASK)
    model = aimet("model_preparer").prepare_model(model)
    example = torch.zeros(1, *loaded.shapes[0])
    aimet("batch_norm_fold").fold_all_batch_norms(model, None, example)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU6):
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, nn.ReLU())
    aimet("cross_layer_equalization").equalize_model(model, dummy_input=example)
    sim = aimet("quantsim").QuantizationSimModel(
        model,
        example,
        quant_scheme="tf_enhanced",
        default_param_bw=bits,
        default_output_bw=bits,
        in_place=True,
    )
    [seen] = data.calibration_images(loaded, images)
    sim.compute_encodings(lambda module: [module(batch) for batch in torch.split(seen, 250)])
    training.evaluate(sim.model, loaded.validation.batches(250), TASK)
    train(sim.model, loaded.train, steps // 2, 5e-4)
    training.evaluate(sim.model, loaded.validation.batches(250), TASK)


def procedure(given: dict[str, object]) -> None:
    steps, images = int(str(given["steps"])), int(str(given["images"]))
    loaded = data.load(DatasetOptions(name="embedded"), LoaderOptions(), seed=1)
    names = given["models"]
    assert isinstance(names, list)
    for name, bits in itertools.product(names, _BITS):
        cell(name, bits, loaded, steps, images)


@dataclass(frozen=True)
class Usage:
    """What a process and all that it starts take.

    Attributes:
        wall: seconds.
        processor: seconds of all processors together.
        gigabytes: peak memory of the largest process.
    """

    wall: float
    processor: float
    gigabytes: float


def usage(command: Sequence[str], threads: int = 0) -> Usage:
    """Run Python with these arguments; 0 threads are as many as PyTorch takes of its own."""
    usual = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads:
        usual["OMP_NUM_THREADS"] = str(threads)
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], env=usual, stdout=subprocess.DEVNULL)
    _, status, found = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    wall = time.perf_counter() - started
    return Usage(wall, found.ru_utime + found.ru_stime, found.ru_maxrss / 1e6)


def bitladder_run(study: str) -> Usage:
    """``bitladder run`` on the text of a study, from an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(study)
        places = ["--output", f"{folder}/run", "--store", f"{folder}/store"]
        return usage(["-c", _COMMAND, "run", str(path), *places])


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--procedure":
        procedure(json.loads(sys.argv[2]))
        return
    given = arguments(__doc__, steps=40, images=1000, threads=0)
    settings = {"models": given.models, "steps": given.steps, "images": given.images}
    plain = usage([__file__, "--procedure", json.dumps(settings)], given.threads)
    ours = bitladder_run(_STUDY.format(**settings, bits=list(_BITS), tuning=given.steps // 2))
    cores = machine(f"{os.cpu_count()} cores")
    print(f"{cores}; {3 * len(given.models)} cells, {given.steps} + {given.steps // 2} steps\n")
    rows = [
        [name, f"{found.wall:.0f} s", f"{found.processor:.0f} s", f"{found.gigabytes:.1f} GB"]
        for name, found in (("AIMET, as the report did", plain), ("bitladder run", ours))
    ]
    ratios = (ours.wall / plain.wall, ours.processor / plain.processor)
    rows.append(["ratio", *(f"{ratio:.2f}" for ratio in ratios), ""])
    print_table(["", "wall", "processor", "largest process"], rows)


if __name__ == "__main__":
    main()
