"""ONNX Runtime on the exported int8 network against the float one: latency and throughput.

The columns of a study's results, for networks with seeded weights.

python benchmarks/onnxruntime_int8.py [--batch 256] [--models ...] [--rounds 8] [--quick]
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import onnxruntime
from measure import arguments, batch, machine, network, print_table, simulated
from torch import Tensor

from bitladder import deploy, targets
from bitladder.techniques.fold_batch_norm import fold_batch_norm


def measure(name: str, images: Tensor, rounds: int) -> Mapping[str, targets.Speed]:
    folded, _ = fold_batch_norm(network(name))
    traced = deploy.Traced(simulated(folded, "w8a8", images))
    with tempfile.TemporaryDirectory() as folder:
        files = {"float": Path(folder) / "float.onnx", "int8": Path(folder) / "int8.onnx"}
        traced.write_float(files["float"], Path(folder) / "encodings.json")
        traced.write_qdq(files["int8"])
        return targets.speeds(files, images.contiguous().numpy(), rounds=rounds)


def main() -> None:
    given = arguments(__doc__, batch=256)
    images, _ = batch(given.batch)
    print(f"{machine()}; onnxruntime {onnxruntime.__version__}; 32x32, w8a8\n")
    rows = []
    for name in given.models:
        found = measure(name, images, given.rounds)
        plain, int8 = found["float"], found["int8"]
        rows.append(
            [
                name,
                f"{plain.latency_ms:.2f} ms",
                f"{int8.latency_ms:.2f} ms",
                f"{plain.latency_ms / int8.latency_ms:.2f}",
                f"{plain.images_per_second:,.0f}",
                f"{int8.images_per_second:,.0f}",
                f"{int8.images_per_second / plain.images_per_second:.2f}",
            ]
        )
    heads = ["network", "float, one image", "int8", "float / int8"]
    heads += [f"float, images/s at {given.batch}", "int8", "int8 / float"]
    print_table(heads, rows)


if __name__ == "__main__":
    main()
