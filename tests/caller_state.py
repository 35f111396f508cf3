"""What a program's own state is, and which of it each public call changes; run as a script.

It prints, by the name of a call, the list of what differs after it.
"""

import gc
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset


def state():
    """Everything a library shall leave as it was, by name, as values that can be compared."""
    return {
        "torch random": torch.get_rng_state().tolist(),
        "torch seed": torch.initial_seed(),
        "numpy random": repr(np.random.get_state(legacy=False)),
        "python random": hash(random.getstate()),
        "warning filters": [repr(entry) for entry in warnings.filters],
        "shown warnings": repr(warnings.showwarning),
        "loggers": {name: _logger(found) for name, found in _loggers().items()},
        "logging off": logging.root.manager.disable,
        "default dtype": str(torch.get_default_dtype()),
        "threads of torch": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "matmul precision": torch.get_float32_matmul_precision(),
        "denormals": sys.float_info.min / 2 != 0.0,
        "numpy errors": np.geterr(),
        "signals": {int(one): repr(signal.getsignal(one)) for one in signal.valid_signals()},
        "exception hooks": [repr(sys.excepthook), repr(threading.excepthook)],
        "file descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "processes": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109
        "streams": [id(sys.stdout), id(sys.stderr)],
    }


def _loggers():
    known = logging.root.manager.loggerDict
    return {"root": logging.root} | {
        name: found for name, found in known.items() if isinstance(found, logging.Logger)
    }


def _logger(found):
    return [found.level, found.propagate, found.disabled, repr(found.handlers), repr(found.filters)]


def changed(before, after):
    """Names of what differs; loggers that are new are their libraries' own."""
    new = {name: value for name, value in after["loggers"].items() if name in before["loggers"]}
    after = {**after, "loggers": new}
    return [name for name in before if before[name] != after[name]]


def _unusual():
    """Set what a program may set otherwise than a library would."""
    torch.manual_seed(5)
    np.random.seed(6)
    random.seed(7)
    torch.set_num_threads(2)
    torch.backends.cudnn.benchmark = True
    warnings.filterwarnings("error", message="mine")
    logging.getLogger("mine").addHandler(logging.NullHandler())
    for name in ("lightning.pytorch", "lightning.fabric", "distributed", "Quant", "Utils"):
        logging.getLogger(name).setLevel(logging.DEBUG if name == "Quant" else logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGUSR1, lambda *_: None)


def _load_what_stays_open():
    """Have libraries open what they keep open once they are used, such as their own threads'."""
    import multiprocessing.resource_tracker

    import onnxruntime  # noqa: F401
    import vl_convert

    vl_convert.svg_to_png("<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>")
    vl_convert.vegalite_to_svg({"mark": "point", "data": {"values": []}})
    multiprocessing.resource_tracker.ensure_running()


class Ends(TensorDataset):
    """Images of which the last cannot be read."""

    def __init__(self):
        images = torch.rand(96, 1, 12, 12, generator=torch.Generator().manual_seed(1))
        super().__init__(images, torch.arange(96) % 4)

    def __getitem__(self, index):
        if index == 95:
            raise OSError("the disk is gone")
        return super().__getitem__(index)


def _calls(folder):
    """The public calls by name, in an order in which each finds what it needs."""
    import bitladder as bl
    from small_network import Branches, split

    train, validation = split(96, 1), split(64, 2)

    def loader(one, labels=None):
        images = one.float_images(torch.arange(len(one.targets)))
        return DataLoader(
            TensorDataset(images, one.targets if labels is None else labels), 32, shuffle=True
        )

    images = train.float_images(torch.arange(64))
    ptq = ["fold_batch_norm", {"calibrate": {"images": 64}}, {"adaround": {"iterations": 5}},
           "bias_correction"]  # fmt: skip
    qat = [
        {"calibrate": {"images": 64}},
        {"finetune": {"epochs": 8, "lr": 5e-3, "distill": 0}},
        "reestimate_batch_norm",
    ]
    found = {}
    model = Branches().eval()

    def quantize(recipe, calibration=images, **more):
        return bl.quantize(model, calibration, "w8a8", recipe, **more)

    def keep(name, made):
        found[name] = made

    artifact, saved = folder / "model.onnx", folder / "net.safetensors"
    options = {"output": folder / "run", "store": folder / "store", "in_process": True}
    yield "import", lambda: bl.quantize
    yield "quantize", lambda: keep("model", quantize(ptq))
    yield "quantize by training", lambda: keep("trained", quantize(
        qat, training=loader(train), validation=loader(validation)))  # fmt: skip
    yield "quantize from a loader that shuffles", lambda: quantize("data_free", loader(train))
    yield "quantize without images", lambda: quantize(ptq, images[:0])
    yield "quantize with a bad label", lambda: quantize(
        qat, training=loader(train, torch.full((96,), -3)))  # fmt: skip
    yield "quantize by training on images that end", lambda: quantize(
        qat, training=DataLoader(Ends(), 32, shuffle=True))  # fmt: skip
    yield "finetune", lambda: found["model"].finetune(loader(train))
    yield "finetune a wrong option", lambda: found["model"].finetune(loader(train), speed=1)
    yield "layers", lambda: found["model"].layers()
    yield "sensitivity", lambda: found["model"].sensitivity(images)
    yield "export", lambda: found["model"].export(artifact)
    yield "integer_exact", lambda: found["model"].integer_exact().run(images.numpy())
    yield "save", lambda: found["model"].save(saved)
    yield "load", lambda: bl.QuantizedModel.load(saved, model)
    yield "load what is none", lambda: bl.QuantizedModel.load(artifact, model)
    yield "verify", lambda: bl.verify(artifact, loader(validation), simulation=found["model"])
    yield "verify what is no model", lambda: bl.verify(saved, images)
    for number, name in enumerate(("run", "run again", "run into a failure")):
        change = ["models=[small_nets:broken]"] if number == 2 else []
        yield name, lambda change=change: bl.run(
            folder / "small.yaml", change, options=bl.RunOptions(**options))  # fmt: skip
    yield "run on images of a folder", lambda: bl.run(
        folder / "small.yaml",
        ["data.workers=1", f"datasets=[{{name: {folder / 'photos'}, size: 32}}]",
         "models=[small_nets:coloured]", "train.lr=auto"],
        options=bl.RunOptions(**{**options, "output": folder / "photo_run"}))  # fmt: skip
    yield "run on workers", lambda: bl.run(
        folder / "small.yaml", ["seed=9"],
        options=bl.RunOptions(output=folder / "run", store=folder / "store", jobs=1))  # fmt: skip
    yield "run nothing", lambda: bl.run(folder / "none.yaml")
    yield "write_report", lambda: bl.write_report(folder / "run")


def main():
    """Call everything in a folder of its own."""
    os.environ["BITLADDER_STORE"] = "elsewhere"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        sys.path.insert(0, name)
        _write_study(folder)
        _load_what_stays_open()
        _unusual()
        differences = {}
        for call, perform in _calls(folder):
            gc.collect()
            before = state()
            refused = ""
            try:
                perform()
            except Exception as error:
                refused = repr(error)
            gc.collect()
            differences[call] = {"changed": changed(before, state()), "refused": refused}
        os.chdir("/")
    print(json.dumps(differences))


def _write_study(folder):
    import yaml
    from PIL import Image

    from small_study import NETWORK, STUDY

    coloured = NETWORK.replace("def net(", "def coloured(").replace("Conv2d(1,", "Conv2d(3,")
    (folder / "small_nets.py").write_text(NETWORK + coloured)
    small = {
        **STUDY,
        "datasets": [{"name": "embedded", "train": 200, "validation": 200}],
        "precisions": [8],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(small))
    pixels = np.random.default_rng(0)
    for label in range(2):
        place = folder / "photos" / str(label)
        place.mkdir(parents=True)
        for number in range(60):
            values = pixels.integers(0, 100, (32, 32, 3)) + 100 * label
            Image.fromarray(values.astype("uint8")).save(place / f"{number}.png")


if __name__ == "__main__":
    main()
