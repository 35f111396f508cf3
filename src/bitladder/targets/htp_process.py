"""The process that runs an artifact on the HTP emulator; a script that needs no bitladder.

Its standard output carries frames: 8 bytes of length, then JSON or an array in NumPy's format.
What the emulator prints goes to the standard error.
"""

import io
import json
import os
import sys
from typing import Any, BinaryIO

import numpy as np


def main() -> None:
    """Serve one session: its description, then the outputs for all inputs that come in."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the emulator prints on descriptor 1
    options = json.loads(sys.argv[1])
    try:
        session = _open(options)
        inputs = [
            {"name": tensor.name, "shape": tensor.shape, "type": tensor.type}
            for tensor in session.get_inputs()
        ]
    except Exception as error:  # its reason goes to whoever asked
        _send(replies, json.dumps({"error": " ".join(str(error).split())}).encode())
        return
    outputs = [tensor.name for tensor in session.get_outputs()]
    _send(replies, json.dumps({"inputs": inputs, "outputs": outputs}).encode())
    while request := _receive(sys.stdin.buffer):
        each = json.loads(request)["each"]
        arrays = [_array(_receive(sys.stdin.buffer)) for _ in inputs]
        feeds = dict(zip((tensor["name"] for tensor in inputs), arrays, strict=True))
        try:
            found = _run_each(session, feeds) if each else session.run(None, feeds)
        except Exception as error:
            _send(replies, json.dumps({"error": " ".join(str(error).split())}).encode())
            return
        _send(replies, json.dumps({}).encode())
        for output in found:
            memory = io.BytesIO()
            np.save(memory, output, allow_pickle=False)
            _send(replies, memory.getvalue())


def _run_each(session: Any, feeds: dict[str, Any]) -> list[Any]:
    """Run a batch one by one, as a device does."""
    batch = len(next(iter(feeds.values())))
    found = [
        session.run(None, {name: values[i : i + 1] for name, values in feeds.items()})
        for i in range(batch)
    ]
    return [_joined(parts) for parts in zip(*found, strict=True)]


def _joined(parts: tuple[Any, ...]) -> Any:
    """An output of all runs; one without a row an image is there once."""
    if all(part.ndim and len(part) == 1 for part in parts):
        return np.concatenate(parts)
    same = all(np.array_equal(part, parts[0]) for part in parts[1:])
    return parts[0] if same else np.stack(parts) if not parts[0].ndim else np.concatenate(parts)


def _open(options: dict[str, Any]) -> Any:
    import onnxruntime
    import onnxruntime_qnn

    provider = "QNNExecutionProvider"
    onnxruntime.register_execution_provider_library(provider, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 2  # what the provider warns of is told with its error
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    settings.add_free_dimension_override_by_name("batch", 1)
    for key, value in options["session"].items():
        settings.add_session_config_entry(key, value)
    library = f"{onnxruntime_qnn.LIB_DIR_FULL_PATH}/{options['backend']}"
    provider_options = {"backend_path": library, **options["provider"]}
    settings.add_provider_for_devices(devices[:1], provider_options)
    session = onnxruntime.InferenceSession(
        options["artifact"],
        settings,
        disabled_optimizers=["DoubleQDQPairsRemover"],  # two grids of one scale are not one grid
    )
    session.disable_fallback()
    return session


def _array(frame: bytes) -> Any:
    return np.load(io.BytesIO(frame), allow_pickle=False)


def _send(stream: BinaryIO, frame: bytes) -> None:
    stream.write(len(frame).to_bytes(8, "little") + frame)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes:
    size = int.from_bytes(stream.read(8), "little")
    return stream.read(size) if size else b""


if __name__ == "__main__":
    main()
