"""One batch through the simulated network over one through the float network.

python benchmarks/simulated_evaluation.py [--batch 256] [--models ...] [--quick]
"""

from measure import (
    arguments,
    batch,
    forward,
    interleave,
    machine,
    network,
    print_row,
    print_table,
    simulated,
    with_aimet,
)


def main() -> None:
    given = arguments(__doc__, batch=256)
    images, _ = batch(given.batch)
    print(f"{machine()}; batch {given.batch}, 32x32; smallest of {given.rounds} forwards\n")
    labels = ("bitladder w8a8", "bitladder w4a4", "AIMET w8a8")
    print_table(["simulated / float", "float", *labels], [])
    for name in given.models:
        forwards = {
            "float": forward(network(name), images),
            "bitladder w8a8": forward(simulated(network(name), "w8a8", images), images),
            "bitladder w4a4": forward(simulated(network(name), "w4a4", images), images),
            "AIMET w8a8": forward(with_aimet(network(name), 8, images), images),
        }
        best = interleave(forwards, given.rounds)
        ratios = [f"{best[label] / best['float']:.2f}" for label in labels]
        print_row([name, f"{1000 * best['float']:.0f} ms", *ratios])


if __name__ == "__main__":
    main()
