"""ONNX Runtime on the exported int8 network against the float one: latency and throughput.

python benchmarks/onnxruntime_int8.py [--batch 256] [--models ...] [--quick]
"""

import tempfile
from pathlib import Path

import onnxruntime
from measure import arguments, batch, interleave, machine, network, print_table, simulated
from torch import Tensor

from bitladder import deploy
from bitladder.techniques.fold_batch_norm import fold_batch_norm


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(name: str, images: Tensor, rounds: int) -> dict[str, float]:
    folded, _ = fold_batch_norm(network(name))
    quantized = simulated(folded, "w8a8", images)
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"float": Path(folder) / "float.onnx", "int8": Path(folder) / "int8.onnx"}
        traced = deploy.Traced(quantized)
        traced.write_float(files["float"], Path(folder) / "e.json")
        traced.write_qdq(files["int8"])
        for kind, path in files.items():
            opened = session(path)
            for label, given in (("one", images[:1]), ("batch", images)):
                values = {"image": given.contiguous().numpy()}
                runs[f"{kind} {label}"] = lambda opened=opened, values=values: opened.run(
                    None, values
                )
        return interleave(runs, rounds)


def main() -> None:
    given = arguments(__doc__, batch=256)
    images, _ = batch(given.batch)
    print(f"{machine()}; onnxruntime {onnxruntime.__version__}; 32x32, w8a8\n")
    rows = []
    for name in given.models:
        best = measure(name, images, 4 * given.rounds)
        rows.append(
            [
                name,
                f"{1000 * best['float one']:.2f} ms",
                f"{1000 * best['int8 one']:.2f} ms",
                f"{best['float one'] / best['int8 one']:.2f}",
                f"{given.batch / best['float batch']:.0f}",
                f"{given.batch / best['int8 batch']:.0f}",
                f"{best['float batch'] / best['int8 batch']:.2f}",
            ]
        )
    heads = ["network", "float, one image", "int8", "float / int8"]
    heads += [f"float, images/s at {given.batch}", "int8", "int8 / float"]
    print_table(heads, rows)


if __name__ == "__main__":
    main()
