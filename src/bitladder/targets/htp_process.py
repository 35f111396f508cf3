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
    """Serve one session: its description, then logits for every batch that comes in."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the emulator prints on descriptor 1
    options = json.loads(sys.argv[1])
    try:
        session = _open(options)
    except Exception as error:  # its reason goes to whoever asked
        _send(replies, json.dumps({"error": " ".join(str(error).split())}).encode())
        return
    _send(replies, json.dumps({"input": session.get_inputs()[0].name}).encode())
    name = session.get_inputs()[0].name
    while frame := _receive(sys.stdin.buffer):
        images = np.load(io.BytesIO(frame), allow_pickle=False)
        try:
            found = [session.run(None, {name: images[i : i + 1]}) for i in range(len(images))]
        except Exception as error:
            _send(replies, json.dumps({"error": " ".join(str(error).split())}).encode())
            return
        outputs = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        _send(replies, json.dumps({"outputs": len(outputs)}).encode())
        for output in outputs:
            memory = io.BytesIO()
            np.save(memory, output, allow_pickle=False)
            _send(replies, memory.getvalue())


def _open(options: dict[str, Any]) -> Any:
    import onnxruntime
    import onnxruntime_qnn

    provider = "QNNExecutionProvider"
    onnxruntime.register_execution_provider_library(provider, onnxruntime_qnn.get_library_path())
    devices = [device for device in onnxruntime.get_ep_devices() if device.ep_name == provider]
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
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


def _send(stream: BinaryIO, frame: bytes) -> None:
    stream.write(len(frame).to_bytes(8, "little") + frame)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes:
    size = int.from_bytes(stream.read(8), "little")
    return stream.read(size) if size else b""


if __name__ == "__main__":
    main()
