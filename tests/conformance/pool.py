"""Many checks in some processes: resumable, and no crash or endless loop stops the rest."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_SECONDS = 180  # that one job may take
_SOURCES = ("src/bitladder", "tests/conformance")
Work = Callable[[str], dict[str, Any]]


def state_folder(name: str) -> Path:
    """Where unfinished results are kept: another folder for other code."""
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return ROOT / "build" / "conformance" / f"{name}-{digest.hexdigest()[:12]}"


def run_jobs(script: Path, keys: Iterable[str], folder: Path, workers: int) -> dict[str, Any]:
    """Results by key; those in the folder already are not made again.

    Args:
        script: calls ``serve`` when its first argument is ``--worker``.
        keys: of all jobs.
        folder: for results.
        workers: processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = list(keys)
    todo = [key for key in keys if key not in read_results(folder)]
    processes: dict[int, subprocess.Popen[bytes]] = {}
    shown = time.monotonic()
    for index in range(min(workers, len(todo))):
        (folder / f"jobs-{index}.json").write_text(json.dumps(todo[index::workers]))
        processes[index] = _start(script, folder, index)
    try:
        while processes:
            time.sleep(0.5)
            for index, process in list(processes.items()):
                if process.poll() is None:
                    continue
                del processes[index]
                if process.returncode:  # it died in a job, which its results name
                    _note_death(folder, index, process.returncode)
                    processes[index] = _start(script, folder, index)
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                done = len(read_results(folder).keys() & keys)
                print(f"{done} of {len(keys)}", file=sys.stderr, flush=True)
    finally:
        for process in processes.values():
            process.terminate()
    found = read_results(folder)
    return {key: found[key] for key in keys}


def serve(arguments: list[str], work: Work) -> None:
    """Do the jobs of one worker process.

    Args:
        arguments: the folder and the worker's number.
        work: result of a key, which JSON can hold.
    """
    folder, index = Path(arguments[0]), int(arguments[1])
    done = read_results(folder)
    signal.signal(signal.SIGALRM, _too_long)
    with (folder / f"results-{index}.jsonl").open("a", buffering=1) as file:
        for key in json.loads((folder / f"jobs-{index}.json").read_text()):
            if key in done:
                continue
            file.write(json.dumps({"key": key, "begun": True}) + "\n")
            started = time.monotonic()
            signal.alarm(_SECONDS)
            try:
                result = work(key)
            except TimeoutError as error:
                result = {"died": str(error)}
            finally:
                signal.alarm(0)
            result["seconds"] = round(time.monotonic() - started, 2)
            file.write(json.dumps({"key": key, "result": result}) + "\n")


def read_results(folder: Path) -> dict[str, Any]:
    """Results by key, of all workers."""
    found = {}
    for path in sorted(folder.glob("results-*.jsonl")):
        for row in _rows(path):
            if "result" in row:
                found[row["key"]] = row["result"]
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that are whole; a worker may be writing the last."""
    whole, end, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()] if end else []


def _start(script: Path, folder: Path, index: int) -> subprocess.Popen[bytes]:
    log = (folder / f"log-{index}.txt").open("ab")
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(script), "--worker", str(folder), str(index)],
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip


def _note_death(folder: Path, index: int, code: int) -> None:
    path = folder / f"results-{index}.jsonl"
    rows = _rows(path) if path.exists() else []
    if not rows or "begun" not in rows[-1]:
        log = (folder / f"log-{index}.txt").read_text(errors="replace")
        raise RuntimeError(
            f"worker {index} ended with code {code} outside of a job:\n{log[-2000:]}"
        )
    row = {"key": rows[-1]["key"], "result": {"died": f"the process ended with code {code}"}}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _too_long(signum: int, frame: Any) -> None:
    raise TimeoutError(f"not done in {_SECONDS} s")
