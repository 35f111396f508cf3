"""Run an ONNX file in a default and in a precise session: a program for an emulated processor.

python both_sessions.py MODEL.onnx IMAGES.npy OUTPUT.npz
"""

import sys

import numpy as np
import onnxruntime


def main(artifact, images, output):
    found = {}
    for name, precise in (("default", "0"), ("precise", "1")):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.x64quantprecision", precise)
        session = onnxruntime.InferenceSession(
            artifact, options, providers=["CPUExecutionProvider"]
        )
        [found[name]] = session.run(None, {"x": np.load(images)})
    np.savez(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
