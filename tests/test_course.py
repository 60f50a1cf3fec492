"""How far training is, and what ends it."""

import pytest

from vbench.course import Course, no_better
from vbench.grid import Budget, Inner, Train
from vbench.records import Row


def run(course, steps=100):
    shares = []
    while not course.ended_by and len(shares) < steps:
        shares.append(course.share)
        course.advance(1 + (course.inner.steps if course.inner else 0))
    return shares


def test_steps():
    course = Course(Train(steps=4))
    assert run(course) == [0, 0.25, 0.5, 0.75]
    assert (course.step, course.updates, course.ended_by, course.share, course.steps) == (4, 4, "steps", 1, 4)
    assert Course(Train(steps=0)).ended_by == "steps"


def test_evaluations():
    course = Course(Train(budget=Budget(evaluations=100)), batch=10)
    course.price = 3
    assert run(course) == [0, 0.3, 0.6, 0.9]
    assert (course.step, course.spent, course.ended_by, course.share, course.steps) == (4, 120, "evaluations", 1, 4)


def test_the_price_may_change():
    course = Course(Train(budget=Budget(evaluations=100)), batch=10)
    course.price = 2
    course.advance(1)
    assert course.steps == 5
    course.price = 4
    assert run(course) == [0.2, 0.6]
    assert (course.spent, course.ended_by) == (100, "evaluations")


def test_seconds():
    times = iter([0.0, 0.0, 0.4, 0.4, 0.9, 0.9, 1.1])
    course = Course(Train(budget=Budget(seconds=1.0)), seconds=lambda: next(times))
    assert run(course) == [0.0, 0.4, 0.9]
    assert (course.step, course.ended_by) == (3, "seconds")


def test_inner_loops_are_for_a_share_of_it():
    inner = Inner(steps=4, until=0.5)
    steps = Course(Train(steps=4, inner=inner))
    run(steps)
    assert steps.updates == Train(steps=4, inner=inner).updates == 12
    budget = Course(Train(inner=inner, budget=Budget(evaluations=120)), batch=10)
    budget.price = 1
    run(budget)
    assert (budget.step, budget.updates) == (4, 12)


def test_it_goes_on_where_it_was():
    course, again = (Course(Train(budget=Budget(evaluations=100)), batch=10) for _ in range(2))
    course.price = again.price = 3
    course.advance(1)
    course.price = 4
    again.restore(course.step, course.notes())
    assert run(again) == run(course) == [0.3, 0.7]
    assert vars(again) == vars(course) | {"seconds": again.seconds}


def elbos(*values):
    return [Row(10 * n, "valid", "elbo", "all", value, None, 1, "nats") for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "patience", "over"),
    [
        ((1, 2, 3), 1, False),
        ((3, 2), 1, True),
        ((3, 2), 2, False),
        ((3, 2, 1), 2, True),
        ((3, 2, 4), 2, False),
        ((3, 3, 3), 2, True),
        ((1, 3, 2, 2.5), 2, True),
        ((1, 2, float("nan")), 1, True),
        ((float("nan"), 2), 1, False),
        ((3, 2, 1), None, False),
    ],
)
def test_patience(values, patience, over):
    rows = elbos(*values)
    other = [row._replace(value=99.0, **change) for row in rows for change in ({"split": "test"}, {"metric": "bound"})]
    assert no_better(rows[::-1] + other, patience) is over
