"""One quantization-aware training step over one float step: bitladder, AIMET alone, and peers.

python benchmarks/qat_step.py [--batch 256] [--models ...] [--quick]
"""

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


def measure(name: str, size: int, rounds: int) -> tuple[dict[str, float], dict[str, str]]:
    images, labels = batch(size)
    steps = {
        "float": training_step(network(name), images, labels),
        "bitladder w8a8": training_step(simulated(network(name), "w8a8", images), images, labels),
        "bitladder w4a4": training_step(simulated(network(name), "w4a4", images), images, labels),
        "AIMET w8a8": training_step(with_aimet(network(name), 8, images), images, labels),
    }
    failed = {}
    for peer, build in installed().items():
        try:
            step = training_step(build(network(name), images), images, labels)
            step()
        except Exception as error:  # a library's own failure is the result
            failed[peer] = f"fails: {type(error).__name__}"
        else:
            steps[peer] = step
    return interleave(steps, rounds), failed


def main() -> None:
    given = arguments(__doc__, batch=256)
    print(f"{machine()}; batch {given.batch}, 32x32; smallest of {given.rounds} steps\n")
    labels = ["bitladder w8a8", "bitladder w4a4", "AIMET w8a8", *installed()]
    print_table(["QAT step / float step", "float step", *labels], [])
    for name in given.models:
        best, failed = measure(name, given.batch, given.rounds)
        ratios = [
            failed[label] if label in failed else f"{best[label] / best['float']:.2f}"
            for label in labels
        ]
        print_row([name, f"{1000 * best['float']:.0f} ms", *ratios])


if __name__ == "__main__":
    main()
