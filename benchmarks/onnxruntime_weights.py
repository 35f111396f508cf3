"""What uint8 weights cost ONNX Runtime against int8 ones, in default sessions side by side.

Where the processor has no VNNI, int8 weights are faster because their sums may saturate; the
table's head says whether they do here.

python benchmarks/onnxruntime_weights.py [--batch 64] [--resolution 64] [--models ...] [--rounds 8]
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import onnxruntime
from measure import arguments, batch, machine, network, print_table, simulated
from torch import Tensor

from bitladder import deploy, targets
from bitladder.doctor import check_int8
from bitladder.options import WeightType
from bitladder.techniques.fold_batch_norm import fold_batch_norm


def measure(name: str, images: Tensor, resolution: int, rounds: int) -> Mapping[str, targets.Speed]:
    folded, _ = fold_batch_norm(network(name, resolution))
    traced = deploy.Traced(simulated(folded, "w8a8", images))
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / f"{kind}.onnx" for kind in get_args(WeightType)}
        for kind, path in files.items():
            traced.write_qdq(path, weights=kind)
        return targets.speeds(files, images.contiguous().numpy(), rounds=rounds)


def main() -> None:
    given = arguments(__doc__, batch=64, resolution=64)
    images, _ = batch(given.batch, given.resolution)
    size = f"{given.resolution}x{given.resolution}"
    print(f"{machine()}; onnxruntime {onnxruntime.__version__}; {size}, w8a8")
    print(f"{check_int8().detail}\n")
    rows = []
    for name in given.models:
        found = measure(name, images, given.resolution, given.rounds)
        one = {kind: speed.latency_ms for kind, speed in found.items()}
        many = {kind: 1000 * given.batch / speed.images_per_second for kind, speed in found.items()}
        row = [name]
        for times in (one, many):
            row += [f"{times['int8']:.2f} ms"]
            row += [f"{times[kind] / times['int8']:.2f}" for kind in ("uint8", "auto")]
        rows.append(row)
    heads = ["network", "int8, one image", "uint8 / int8", "auto / int8"]
    heads += [f"int8, batch of {given.batch}", "uint8 / int8", "auto / int8"]
    print_table(heads, rows)


if __name__ == "__main__":
    main()
