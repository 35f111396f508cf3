"""What to ship on a target, by candidates made by hand and by random ones."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitladder.answer import SILICON, Candidate, Cost, answer, front, places, usual_loss


def _one(precision, loss, *costs, high=None, **options):
    weights, activations = map(int, precision[1:].split("a"))
    named = zip(("an image", "file"), ("ms", "MB"), (0.1, 0.01), costs, strict=False)
    made = tuple(Cost(name, value, unit, noise) for name, unit, noise, value in named)
    return Candidate(precision, (weights, activations), loss, high, made, **options)


def test_a_narrower_precision_that_gains_nothing_is_not_shipped_and_it_is_said_why():
    wide, narrow = _one("w8a8", 0.1, 1.25, 11.29), _one("w4a4", 0.8, 1.25, 11.31)
    found = answer([narrow, wide], 1.0)
    assert found.chosen == wide
    [reason] = found.reasons
    assert reason.startswith("not w4a4: gains nothing here against w8a8 (")
    assert "1.25 ms an image against 1.25 ms" in reason
    assert "11.31 MB file against 11.29 MB" in reason
    assert found.front == (wide,)


def test_a_smaller_file_is_shipped_where_the_time_is_the_same_up_to_its_noise():
    wide, narrow = _one("w8a8", 0.1, 1.25, 11.29), _one("w4a8", 0.8, 1.30, 5.9)
    found = answer([wide, narrow], 1.0)
    assert (found.chosen, found.passed) == (narrow, ())
    assert found.front == (wide, narrow)


def test_what_counts_first_decides():
    wide, narrow = _one("w8a8", 0.1, 1.25, 11.29), _one("w4a8", 0.8, 2.5, 5.9)
    found = answer([wide, narrow], 1.0)
    assert found.chosen == wide
    assert found.reasons[0].startswith("not w4a8: costs more where it counts first than w8a8")
    assert found.front == (wide, narrow)  # smaller, though slower


@pytest.mark.parametrize(
    ("allowed", "surely", "expected"),
    [
        (1.0, False, "w4a8"),
        (1.0, True, "w8a8"),
        (1.5, True, "w4a8"),
        (0.05, False, None),
        (0.3, True, "w8a8"),
        (0.29, True, None),
    ],
)
def test_within_surely_asks_the_upper_end_of_the_interval(allowed, surely, expected):
    found = answer(
        [_one("w8a8", 0.1, 1, 8, high=0.3), _one("w4a8", 0.9, 1, 4, high=1.5)],
        allowed,
        surely=surely,
    )
    assert (found.chosen and found.chosen.precision) == expected


def test_a_loss_without_an_interval_is_never_sure():
    assert answer([_one("w8a8", 0.0)], 1.0).chosen is not None
    assert answer([_one("w8a8", 0.0)], 1.0, surely=True).chosen is None


def test_of_two_recipes_at_one_cost_the_cheaper_is_shipped():
    ptq = _one("w8a8", 0.4, 1, 8, recipe="ptq", order=0)
    qat = _one("w8a8", 0.1, 1, 8, recipe="qat", order=1)
    assert answer([qat, ptq], 1.0).chosen == ptq
    assert answer([qat, ptq], 0.2).chosen == qat


def test_a_cost_that_one_lacks_decides_nothing():
    measured, unknown = _one("w8a8", 0.1, 1.0, 8.0), _one("w4a8", 0.2)
    assert answer([measured, unknown], 1.0).chosen == measured
    assert "nothing is known that it gains" in answer([measured, unknown], 1.0).reasons[0]


_LOSSES = st.integers(0, 300).map(lambda one: one / 100)
_CANDIDATES = st.lists(
    st.builds(
        lambda bits, loss, time, size: _one(f"w{bits[0]}a{bits[1]}", loss, time, size),
        st.tuples(st.integers(2, 16), st.integers(2, 16)),
        _LOSSES,
        st.sampled_from([1.0, 2.0, 4.0]),
        st.sampled_from([1.0, 2.0, 4.0]),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda one: one.bits,
)


@given(_CANDIDATES, _LOSSES)
def test_no_allowed_candidate_costs_less_and_the_order_does_not_matter(candidates, allowed):
    found = answer(candidates, allowed)
    inside = [one for one in candidates if one.loss <= allowed]
    if not inside:
        assert found.chosen is None
        return
    cheapest = min((one.costs[0].value, one.costs[1].value) for one in inside)
    alike = [one for one in inside if (one.costs[0].value, one.costs[1].value) == cheapest]
    assert found.chosen == max(alike, key=lambda one: one.bits)
    for other in itertools.islice(itertools.permutations(candidates), 6):
        assert answer(other, allowed) == found


@given(_CANDIDATES)
def test_the_front_is_what_no_other_beats(candidates):
    def numbers(one):
        return (one.loss, *(cost.value for cost in one.costs))

    kept = front(candidates)
    for one in candidates:
        beaten = any(
            all(a <= b for a, b in zip(numbers(other), numbers(one), strict=True))
            and numbers(other) != numbers(one)
            for other in candidates
        )
        if beaten:
            assert one not in kept
    assert {min(map(numbers, candidates))} <= set(map(numbers, kept))


def _row(precision, loss, **columns):
    weights, activations = map(int, precision[1:].split("a"))
    return {
        "dataset": "mnist",
        "model": "net",
        "precision": precision,
        "status": "complete",
        "weight_bits": weights,
        "activation_bits": activations,
        "unit": "share",
        "loss": loss,
        "loss_low": loss - 0.002,
        "loss_high": loss + 0.002,
        "macs": 2e9,
        "packed_mb": weights / 4,
        "file_mb": 2.0,
        **columns,
    }


def test_every_target_counts_what_counts_there():
    ran = {"onnxruntime_images": 9.0, "onnxruntime_worst_lsb": 0.0}
    htp = {"htp_images": 5.0, "htp_worst_lsb": 0.0}
    rows = [
        _row("w8a8", 0.001, **ran, **htp, onnxruntime_latency_ms=1.0, onnxruntime_loss=0.003,
             onnxruntime_loss_high=0.004, context_mb=2.5, dlc_mb=3.0, htp_file_mb=2.1),
        _row("w4a8", 0.005, **ran, **htp, onnxruntime_latency_ms=1.05, onnxruntime_loss=0.006,
             onnxruntime_loss_high=0.009, context_mb=1.5, dlc_mb=1.6, htp_file_mb=1.1),
    ]  # fmt: skip
    cpu, device, silicon = places(rows)
    assert [cpu.title, device.title] == ["ONNX Runtime", "HTP emulator"]
    assert (cpu.answer(1.0).chosen.precision, cpu.answer(1.0).chosen.loss) == ("w8a8", 0.3)
    assert [cost.unit for cost in cpu.candidates[0].costs] == ["ms", "MB"]
    chosen = device.answer(1.0).chosen
    assert (chosen.precision, chosen.loss, chosen.by_target) == ("w4a8", 0.5, False)
    assert [cost.name for cost in chosen.costs] == ["context binary", "DLC", "ONNX file"]
    assert silicon.target == SILICON
    assert [cost.text for cost in silicon.answer(1.0).chosen.costs] == ["1.00 MB", "64.00 GBOPs"]


def test_seeds_are_put_together_and_cells_that_failed_are_no_candidates():
    rows = [
        _row("w8a8", 0.002, recipe="ptq", seed=1),
        _row("w8a8", 0.004, recipe="ptq", seed=2),
        {**_row("w4a4", 0.0, recipe="ptq", seed=1), "status": "failed"},
    ]
    [silicon] = places(rows)
    [only] = silicon.candidates
    assert (only.loss, only.high, only.cells) == (pytest.approx(0.3), pytest.approx(0.6), (0, 1))


@pytest.mark.parametrize(
    ("unit", "largest", "expected"), [("share", 0.9, 1.0), ("dB", 30, 0.5), ("", 0.0123, 0.0001)]
)
def test_the_usual_loss_is_in_the_unit_of_the_quality(unit, largest, expected):
    assert usual_loss(unit, largest) == expected
