"""How the time of a study grows with its cells and its workers, and the largest process's memory.

Each run starts from an empty store: one network trained, then every cell calibrated, fine-tuned
and exported.

python benchmarks/study_growth.py [--models shufflenet_v2_x0_5] [--steps 40]
"""

import os

from measure import arguments, bitladder_run, machine, print_row, print_table

_RUNS = ((1, 1), (4, 1), (8, 1), (1, 2), (4, 2), (8, 2))  # cells and workers
_PRECISIONS = ("w8a8", "w4a4", "w6a6", "w4a8", "w5a5", "w7a7", "w6a8", "w3a8")
_STUDY = """
name: growth
datasets: [embedded]
models: [{model}]
precisions: [{precisions}]
train: {{steps: {steps}, lr: 2.0e-3}}
recipe:
  - fold_batch_norm
  - calibrate: {{images: 500}}
  - finetune: {{steps: {steps}}}
verify: []
"""


def main() -> None:
    given = arguments(__doc__, steps=40)
    cores = machine(f"{os.cpu_count()} cores")
    print(f"{cores}; {given.steps} steps of float training, {given.steps} of each cell\n")
    print_table(["network", "cells", "workers", "wall", "processor", "largest process"], [])
    for name in given.models:
        for cells, workers in _RUNS:
            precisions = ", ".join(_PRECISIONS[:cells])
            study = _STUDY.format(model=name, precisions=precisions, steps=given.steps)
            found = bitladder_run(study, "--jobs", str(workers))
            times = (f"{found.wall:.0f} s", f"{found.processor:.0f} s")
            print_row([name, str(cells), str(workers), *times, f"{found.gigabytes:.1f} GB"])


if __name__ == "__main__":
    main()
