"""A few random networks; `make conformance` checks 2,000."""

import pytest
import torch

from conformance.random_checks import check_plan
from conformance.random_networks import OPERATIONS, build, images, plan, smaller, without

SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_file_of_a_random_network_is_its_simulation(seed):
    assert check_plan(plan(seed))[1] == []


def test_a_seed_always_gives_the_same_network_and_other_seeds_give_others():
    made = plan(5)
    assert made == plan(5)
    with torch.no_grad():
        assert torch.equal(build(made)(images(made)), build(made)(images(made)))
    assert len({plan(seed) for seed in range(50)}) == 50


def test_every_operation_is_drawn_and_no_network_gives_values_that_are_not_finite():
    drawn = set()
    for seed in range(150):
        made = plan(seed)
        drawn |= {step.operation for step in made.steps}
        with torch.no_grad():
            assert torch.isfinite(build(made)(images(made, 3))).all()
    assert drawn == set(OPERATIONS)


def test_a_step_can_be_taken_out_of_every_network():
    for seed in range(30):
        made = plan(seed)
        for index in range(1, len(made.steps)):
            less = without(made, index)
            assert len(less.steps) == len(made.steps) - 1
            build(less)


def test_a_network_is_made_smaller_while_the_fault_stays():
    made = next(p for p in map(plan, range(100)) if "cat" in [s.operation for s in p.steps[2:]])
    least = smaller(made, lambda other: "cat" in [step.operation for step in other.steps], 100)
    assert [step.operation for step in least.steps[1:]] == ["cat"]
    assert least.head == "flatten"
