"""Peak memory of ``quantize`` on large images beside that of float forwards of its own batches.

python benchmarks/quantize_memory.py [--model NAME] [--side 640] [--images 3,9]

One process a row. The peak is what the process grows by at its highest, weights included in both;
the batch is the one that calibration takes of images of that size.
"""

import argparse
import os
import sys
import time
from pathlib import Path

RECIPE = ("fold_batch_norm", "calibrate")


def main() -> None:
    """Print a row for each number of images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="mobilenet_v2")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--images", default="3,9")
    options = parser.parse_args()
    print("| network | side | images | batch | float | quantize | quantize / float | seconds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for count in map(int, options.images.split(",")):
        child = os.fork()  # before torch is loaded, so that every row begins alike
        if not child:
            print(_row(options.model, options.side, count), flush=True)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(f"{options.model} with {count} images failed")


def _row(name: str, side: int, count: int) -> str:
    import torch

    import bitladder
    from bitladder import models
    from bitladder.options import ModelOptions
    from bitladder.structures import fitting, split

    small = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()
    bitladder.quantize(small, torch.rand(2, 1, 8, 8), recipe=RECIPE, progress=False)  # loads all
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    base = _mib("VmRSS")
    network = models.build(ModelOptions(name=name), classes=10, shapes=[(3, side, side)], seed=1)
    network.eval()
    batch = fitting(images, 250)
    _reset_peak()
    with torch.no_grad():
        for given in split(images, batch):
            network(*given)
    plain = _mib("VmHWM") - base
    _reset_peak()
    started = time.process_time()
    bitladder.quantize(network, images, recipe=RECIPE, progress=False)
    whole, seconds = _mib("VmHWM") - base, time.process_time() - started
    return (
        f"| {name} | {side} | {count} | {batch} | {plain:.0f} MiB | {whole:.0f} MiB | "
        f"{whole / plain:.2f} | {seconds:.0f} |"
    )


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _mib(field: str) -> float:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(field)) / 1024


if __name__ == "__main__":
    main()
