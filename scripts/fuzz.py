"""Damage valid small files of every kind, and see that each is read or refused in one line.

python scripts/fuzz.py [--minutes 60] [--kinds onnx,dlc] [--gib 2] [--show KIND:NUMBER]

A case is a kind and a number, which is its seed; it runs in a process of its own that may take so
much memory and 20 seconds of a processor. What is done is kept in build/fuzz and not done again;
what was found is in build/fuzz/found.jsonl, with its file beside it.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from itertools import count
from pathlib import Path
from typing import Any

from fuzz_damage import damaged
from fuzz_doors import DOORS

from bitladder.errors import BitladderError

STATE = Path(__file__).parents[1] / "build" / "fuzz"
SECONDS = 20  # of a processor, however busy the machine is
_WAITING = 15  # times that: something is waited for that never comes
_LONGEST = 4000  # characters of a refusal


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--kinds", default=",".join(DOORS))
    parser.add_argument("--gib", type=float, default=2, help="memory that a case may take")
    parser.add_argument("--show", help="run one case and print what becomes of it")
    options = parser.parse_args()
    if options.show:
        kind, _, number = options.show.partition(":")
        with Fuzz([kind], options.gib) as fuzz:
            print(json.dumps(fuzz.case(kind, int(number)), indent=1))
        return
    sys.exit(bool(run(options.kinds.split(","), options.minutes * 60, options.gib)))


def run(kinds: list[str], seconds: float, gib: float) -> int:
    """Go on where the last run stopped, until the time is over; how many cases were faults."""
    STATE.mkdir(parents=True, exist_ok=True)
    place = STATE / "next.json"
    numbers = json.loads(place.read_text()) if place.exists() else {}
    end, done, faults = time.monotonic() + seconds, 0, 0
    with Fuzz(kinds, gib) as fuzz, (STATE / "found.jsonl").open("a") as log:
        for kind in (kind for _ in count() for kind in kinds):
            if time.monotonic() > end:
                break
            number = numbers.get(kind, 0)
            result = fuzz.case(kind, number)
            numbers[kind] = number + 1
            done += 1
            if "fault" in result:
                faults += 1
                log.write(json.dumps(result) + "\n")
                log.flush()
                shutil.copy(fuzz.file, STATE / f"{kind}-{number}{fuzz.file.suffix}")
                print(f"{kind}:{number}: {result['fault'].splitlines()[-1]}", flush=True)
            if done % 50 == 0:
                place.write_text(json.dumps(numbers))
    place.write_text(json.dumps(numbers))
    print(f"{done} cases, {faults} faults")
    return faults


class Fuzz:
    """Valid files of some kinds, and the cases that are made of them.

    Args:
        kinds: names of doors.
        gib: memory that a case may take beyond what the process has.
        make: whether the valid files are made anew.

    Attributes:
        file: the damaged file of the last case.
    """

    def __init__(self, kinds: list[str], gib: float) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self.valid: dict[str, list[Path]] = {}
        self.kinds, self.gib = kinds, gib
        self.file = self.folder / "none"

    def __enter__(self) -> "Fuzz":
        for kind in self.kinds:
            folder = self.folder / kind
            folder.mkdir()
            self._in_a_process(lambda kind=kind, folder=folder: DOORS[kind].make(folder), 120)
            made = sorted(path for path in folder.iterdir() if path.suffix != ".bin")
            self.valid[kind] = made
            assert made, f"no valid file of kind {kind}"
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def case(self, kind: str, number: int) -> dict[str, Any]:
        """What becomes of a case: ``read``, ``refused`` with the message, or ``fault``."""
        valid = self.valid[kind]
        source = valid[number % len(valid)]
        work = self.folder / "case"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        file = work / source.name
        others = [path.read_bytes() for path in valid]
        file.write_bytes(damaged(source.read_bytes(), f"{kind}:{number}", source.suffix, others))
        self.file = self.folder / f"last{source.suffix}"  # reading may move the file
        shutil.copy(file, self.file)
        found = self._in_a_process(lambda: DOORS[kind].read(file), SECONDS)
        return {"case": f"{kind}:{number}", **found}

    def _in_a_process(self, read: Any, seconds: int) -> dict[str, Any]:
        """Run it in a fork of this process, which has loaded every library and no file."""
        answer, noise = self.folder / "answer", self.folder / "noise"
        answer.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            _limit(self.gib, seconds)
            with noise.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                answer.write_text(json.dumps(_outcome(read)))
            os._exit(0)
        end = time.monotonic() + seconds * _WAITING
        pause = 0.002
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return {"fault": f"waits for more than {seconds * _WAITING} s"}
            time.sleep(pause)
            pause = min(0.1, pause * 1.5)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            return {"fault": f"takes more than {seconds} s of a processor"}
        if status or not answer.exists():
            text = noise.read_text(errors="replace")[-500:]
            return {"fault": f"{text}\nthe process died, status {status}"}
        found: dict[str, Any] = json.loads(answer.read_text())
        if "fault" not in found and (text := noise.read_text(errors="replace")):
            return {**found, "fault": f"prints by itself: {text[:500]}"}
        return found


def _limit(gib: float, seconds: int) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    allowed = taken + int(gib * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _outcome(read: Any) -> dict[str, str]:
    try:
        read()
    except BitladderError as error:
        text = str(error)
        if "\n" in text or not text or len(text) > _LONGEST:
            return {"fault": f"not one line: {text[:_LONGEST]!r}"}
        return {"refused": text}
    except BaseException:
        return {"fault": traceback.format_exc()[-4000:].strip()}
    return {"read": ""}


if __name__ == "__main__":
    main()
