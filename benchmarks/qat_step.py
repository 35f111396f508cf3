"""One quantization-aware training step over one float step: bitladder, AIMET alone, and peers.

python benchmarks/qat_step.py [--batch 256] [--models ...] [--quick]
"""

import contextlib
import itertools
import sys

from measure import (
    arguments,
    batch,
    interleave,
    machine,
    network,
    print_row,
    print_table,
    simulated,
    training_step,
    with_aimet,
)
from peers import installed

_BITS = (8, 4)
_OURS = ("bitladder", "AIMET")


def measure(
    name: str, size: int, rounds: int
) -> tuple[float, dict[tuple[str, int], float], dict[tuple[str, int], str]]:
    """Seconds of the float step, of each library's at each width, and what failed."""
    images, labels = batch(size)
    float_step = training_step(network(name), images, labels)
    steps = {}
    for bits in _BITS:
        ours = simulated(network(name), f"w{bits}a{bits}", images)
        theirs = with_aimet(network(name), bits, images)
        for library, model in zip(_OURS, (ours, theirs), strict=True):
            steps[library, bits] = training_step(model, images, labels)
    failed = {}
    for (library, build), bits in itertools.product(installed().items(), _BITS):
        try:
            with contextlib.redirect_stdout(sys.stderr):
                step = training_step(build(network(name), bits, images), images, labels)
                step()
        except Exception as error:  # a library's own failure is the result
            failed[library, bits] = f"fails: {type(error).__name__}"
        else:
            steps[library, bits] = step
    best = interleave({("float", 32): float_step, **steps}, rounds)
    return best.pop(("float", 32)), best, failed


def main() -> None:
    given = arguments(__doc__, batch=256)
    print(f"{machine()}; batch {given.batch}, 32x32; smallest of {given.rounds} steps\n")
    libraries = [*_OURS, *installed()]
    print_table(["QAT step / float step", "precision", "float step", *libraries], [])
    for name in given.models:
        float_seconds, seconds, failed = measure(name, given.batch, given.rounds)
        for bits in _BITS:
            ratios = [
                failed.get((library, bits)) or f"{seconds[library, bits] / float_seconds:.2f}"
                for library in libraries
            ]
            print_row([name, f"w{bits}a{bits}", f"{1000 * float_seconds:.0f} ms", *ratios])


if __name__ == "__main__":
    main()
