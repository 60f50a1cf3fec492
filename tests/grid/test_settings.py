"""Defaults and limits of ``train`` and ``measure``."""

import itertools

import pytest
from pydantic import ValidationError

from tests.grid.fake_catalogue import CATALOGUE
from vbench.grid.positions import GridError, Problems, from_python
from vbench.grid.sections import read_measure, read_trains
from vbench.grid.settings import (
    AIS,
    Budget,
    Gradients,
    InferenceGap,
    Inner,
    LogLikelihood,
    Measure,
    Reference,
    Train,
    log_spaced,
)


def trains(tree):
    problems = Problems()
    found = read_trains(from_python(tree, "", problems), "train", problems)
    problems.finish()
    return found


def measure(tree, *trains, swept=()):
    problems = Problems()
    found = read_measure(from_python(tree, "", problems), CATALOGUE, "measure", problems, trains, swept)
    problems.finish()
    return found


def test_defaults():
    assert Train().model_dump() == {
        "steps": 1000,
        "batch": 100,
        "optimizer": "adam",
        "lr": 1e-3,
        "clip": None,
    }
    assert Measure().model_dump() == {
        "every": None,
        "samples": 16,
        "data": None,
        "gradients": None,
        "log_likelihood": None,
    }
    assert Gradients().model_dump() == {
        "draws": 100,
        "batches": 4,
        "batch": None,
        "at": "own",
        "reference": None,
        "warmup": 200,
    }
    found = measure({"inference_gap": {"k": 7}})
    assert found == Measure(inference_gap=InferenceGap(k=7))
    assert found.model_dump()["inference_gap"] == {"k": 7, "steps": 300, "lr": 0.05, "samples": 200, "data": 200}
    assert Measure.model_validate(found.model_dump()) == found
    assert LogLikelihood().model_dump() == {"method": "iwae", "k": 500}


@pytest.mark.parametrize("empty", [None, {}])
def test_nothing_written_is_the_defaults(empty):
    assert trains(empty) == ([Train()], ())
    assert measure(empty) == Measure()


def test_empty_mappings_ask_for_the_defaults():
    found = measure({"gradients": {}, "log_likelihood": {}})
    assert found == Measure(gradients=Gradients(), log_likelihood=LogLikelihood())
    assert measure({"gradients": None, "log_likelihood": None}) == Measure()


def test_read():
    (train,), swept = trains({"steps": 5, "batch": 2, "optimizer": "sgd", "lr": 1, "clip": 2})
    assert train == Train(steps=5, batch=2, optimizer="sgd", lr=1.0, clip=2.0)
    assert repr(train.lr) == "1.0"
    assert swept == ()


def test_sweep_is_crossed_and_named_in_the_order_of_the_fields():
    found, swept = trains({"sweep": {"lr": [1e-3, 1e-4], "batch": [1, 2]}})
    assert [(train.lr, train.batch) for train in found] == [(1e-3, 1), (1e-3, 2), (1e-4, 1), (1e-4, 2)]
    assert swept == ("batch", "lr")


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Train, {"steps": -1}),
        (Train, {"steps": True}),
        (Train, {"steps": "5"}),
        (Train, {"steps": 5.0}),
        (Train, {"batch": 0}),
        (Train, {"lr": 0.0}),
        (Train, {"lr": float("inf")}),
        (Train, {"clip": 0.0}),
        (Train, {"optimizer": "lion"}),
        (Train, {"stepz": 1}),
        (Train, {"inner": {"part": "estimator"}}),
        (Train, {"inner": {"steps": 0}}),
        (Train, {"inner": {"until": 0.0}}),
        (Train, {"inner": {"batches": "all"}}),
        (Train, {"inner": 3}),
        (Train, {"budget": {"evaluations": 0}}),
        (Train, {"budget": {"evaluations": 5.0}}),
        (Train, {"budget": {"seconds": 0}}),
        (Train, {"budget": {}}),
        (Train, {"budget": {"evaluations": 5, "seconds": 1.0}}),
        (Train, {"budget": 3}),
        (Train, {"steps": 1000, "budget": {"evaluations": 5}}),
        (Train, {"patience": 0}),
        (Gradients, {"draws": 1}),
        (Gradients, {"batches": 0}),
        (Gradients, {"batch": 0}),
        (Gradients, {"warmup": -1}),
        (Gradients, {"at": "here"}),
        (LogLikelihood, {"k": 0}),
        (LogLikelihood, {"k": [3, 0]}),
        (Measure, {"ais": {"chains": 0}}),
        (Measure, {"ais": {"start": "middle"}}),
        (Measure, {"ais": {"acceptance": 1.0}}),
        (Measure, {"inference_gap": {"steps": 0}}),
        (Measure, {"every": 0}),
        (Measure, {"samples": 0}),
        (Measure, {"data": 0}),
    ],
)
def test_models_and_reader_hold_the_same_limits(model, values):
    with pytest.raises(ValidationError):
        model(**values)
    read, tree = {
        Train: (trains, values),
        Measure: (measure, values),
        Gradients: (measure, {"gradients": values}),
        LogLikelihood: (measure, {"log_likelihood": values}),
    }[model]
    with pytest.raises(GridError) as caught:
        read(tree)
    assert len(caught.value.lines) == 1


def test_a_ladder_has_one_spelling():
    found = measure({"log_likelihood": {"k": [100, 1, 10, 1]}})
    assert found.log_likelihood == LogLikelihood(k=(1, 10, 100))
    assert Measure.model_validate_json(found.model_dump_json()) == found
    assert measure({"log_likelihood": {"k": [7]}}).log_likelihood.model_dump() == {"method": "iwae", "k": 7}
    with pytest.raises(GridError, match="no k is there"):
        measure({"log_likelihood": {"k": []}})


def test_annealing_is_told_only_where_it_is_asked_for():
    found = measure({"ais": {"start": "encoder", "data": None}})
    assert found == Measure(ais=AIS(start="encoder", data=None))
    assert found.model_dump()["ais"]["temperatures"] == 1000
    assert Measure.model_validate(found.model_dump()) == found
    assert "ais" not in Measure().model_dump()
    with pytest.raises(GridError, match="did you mean 'temperatures'"):
        measure({"ais": {"temperature": 5}})


def test_an_inner_loop_is_read_and_told_only_where_there_is_one():
    ((train,), swept) = trains({"steps": 10, "inner": {"steps": 4, "until": 0.25}})
    assert train == Train(steps=10, inner=Inner(part="encoder", steps=4, batches="same", until=0.25))
    assert swept == ()
    assert train.model_dump()["inner"] == {"part": "encoder", "steps": 4, "batches": "same", "until": 0.25}
    assert Train.model_validate(train.model_dump()) == train
    assert "inner" not in Train().model_dump()
    assert (train.looped, train.updates) == (3, 22)
    assert (Train().looped, Train().updates) == (0, 1000)
    crossed, _ = trains({"inner": {}, "sweep": {"lr": [1e-3, 1e-4]}})
    assert [each.inner for each in crossed] == [Inner(), Inner()]
    assert trains({"inner": None}) == ([Train()], ())


def test_a_schedule_is_read_and_told_only_where_it_is_asked_for():
    ((train,), _) = trains({"steps": 9, "schedule": "step", "gamma": 0.5, "warmup": 3})
    assert train == Train(steps=9, schedule="step", gamma=0.5, warmup=3)
    told = train.model_dump()
    assert (told["schedule"], told["warmup"], told["step_size"], told["gamma"]) == ("step", 3, 1000, 0.5)
    assert Train.model_validate(told) == train
    assert Train(schedule="cosine").model_dump().keys() - Train().model_dump().keys() == {"schedule"}
    crossed, swept = trains({"gamma": 0.5, "sweep": {"optimizer": ["sgd", "adam"], "schedule": ["constant", "step"]}})
    assert swept == ("optimizer", "schedule")
    assert [(each.optimizer, each.schedule) for each in crossed] == [
        ("sgd", "constant"),
        ("sgd", "step"),
        ("adam", "constant"),
        ("adam", "step"),
    ]
    assert "gamma" not in crossed[0].model_dump()  # a key does not depend on what has no effect
    found = measure({"gradients": {"at": "shared", "reference": {"schedule": "cosine"}}}, Train(steps=5, warmup=2))
    assert (found.gradients.reference.schedule, found.gradients.reference.warmup) == ("cosine", 2)
    assert found.gradients.reference.train == Train(steps=5, warmup=2, schedule="cosine")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"schedule": "cosin"}, "train.schedule: expected one of constant, cosine, linear, step"),
        ({"optimizer": "adagrad"}, "train.optimizer: expected one of adam, sgd, rmsprop, adamw, natural-gradient"),
        ({"warmup": -1}, "train.warmup: expected an integer >= 0"),
        ({"schedule": "step", "gamma": 1.0}, "train.gamma: expected a number > 0 and < 1"),
        ({"gamma": 0.5}, "train.gamma: only with schedule: step"),
        ({"schedule": "cosine", "step_size": 5}, "train.step_size: only with schedule: step"),
        ({"sweep": {"gamma": [0.1, 0.2]}}, "train.gamma: only with schedule: step"),
    ],
)
def test_a_wrong_schedule_is_told_with_its_place(tree, text):
    with pytest.raises(GridError) as caught:
        trains(tree)
    (line,) = caught.value.lines
    assert line.startswith(text)


def test_a_budget_stands_in_place_of_steps():
    for budget, length in (({"evaluations": 7}, ("evaluations", 7)), ({"seconds": 2}, ("seconds", 2.0))):
        ((train,), _) = trains({"budget": budget, "batch": 3})
        assert train == Train(budget=Budget(**budget), batch=3)
        assert (train.length, Train(steps=9).length) == (length, ("updates", 9))
        told = train.model_dump()
        assert (told["budget"], "steps" in told, "patience" in told) == (dict([length]), False, False)
        assert Train.model_validate(told) == train
        assert Train.model_validate_json(train.model_dump_json()) == train
    assert not {"budget", "patience"} & Train().model_dump().keys()
    assert trains({"budget": None}) == ([Train()], ())


def test_patience_is_swept_and_told():
    found, swept = trains({"steps": 10, "sweep": {"patience": [None, 3]}})
    assert (found, swept) == ([Train(steps=10), Train(steps=10, patience=3)], ("patience",))
    assert found[1].model_dump()["patience"] == 3


def test_a_reference_is_trained_for_a_number_of_steps():
    assert shared({}, Train(budget=Budget(seconds=3.0), lr=0.3)).reference == Reference(steps=1000, lr=0.3)
    assert shared({"reference": {"steps": 5}}, Train(steps=70, patience=2)).reference == Reference(steps=5)
    assert shared({}, Train(steps=70, patience=2)).reference == Reference(steps=70)


def test_models_are_frozen():
    with pytest.raises(ValidationError):
        Train().steps = 3
    assert hash(Train()) == hash(Train())


@pytest.mark.parametrize(
    ("every", "last", "steps"),
    [(None, 10, (10,)), (3, 10, (3, 6, 9, 10)), (5, 10, (5, 10)), (10, 10, (10,)), (1, 3, (1, 2, 3))],
)
def test_steps(every, last, steps):
    assert Measure(every=every).steps(last) == steps


def shared(tree, *trains, swept=(), every=None):
    return measure({"every": every, "gradients": {"at": "shared", **tree}}, *trains, swept=swept).gradients


def test_reference_is_written_out_in_full():
    for text in ("iwae", "iwae[k=5]", "iwae[ k = 5 ]", {"estimator": "iwae"}, {"estimator": "iwae", "steps": 1000}):
        assert shared({"reference": text}).reference == Reference(estimator="iwae[k=5,beta=1.0,learned=false]")
    assert shared({}).reference == Reference()
    assert measure({"gradients": {}}).gradients.reference is None


def test_a_reference_is_trained_as_the_grid_is():
    """What the grid sweeps does not reach it: one reference, whatever is swept, filtered or put first."""
    fast, slow = Train(steps=70, lr=0.3, batch=7), Train(steps=70, lr=0.1, batch=7)
    for trains in ((fast, slow), (slow, fast), (slow,)):
        assert shared({}, *trains, swept=("lr",)).reference == Reference(steps=70, lr=1e-3, batch=7)
    assert shared({}, fast).reference == Reference(steps=70, lr=0.3, batch=7)
    assert shared({"reference": {"steps": 9, "lr": 1}}, fast).reference == Reference(steps=9, lr=1.0, batch=7)


def test_all_are_measured_on_batches_of_one_size():
    assert shared({}, Train(batch=7)).batch == 7
    assert shared({}, Train(batch=7), Train(batch=8), swept=("batch",)).batch == 100
    assert shared({"reference": {"batch": 5}}, Train(batch=7)).batch == 5
    assert shared({"batch": 3}, Train(batch=7)).batch == 3
    assert measure({"gradients": {}}, Train(batch=7)).gradients.batch is None


@pytest.mark.parametrize(
    ("written", "every", "steps"),
    [
        (None, None, (0, 1000)),
        (None, 400, (0, 400, 800, 1000)),
        (2, 400, (0, 1000)),
        (5, None, (0, 5, 31, 177, 1000)),
        ([30, 3, 30], 400, (0, 3, 30, 1000)),
        ([0, 1000], None, (0, 1000)),
        ([], None, (0, 1000)),
    ],
)
def test_checkpoints_have_the_ends_among_them(written, every, steps):
    assert shared({"checkpoints": written}, every=every).checkpoints == steps


@pytest.mark.parametrize("last", [0, 1, 7, 1000, 10**6, 10**9])
@pytest.mark.parametrize("count", [2, 3, 10, 50])
def test_log_spaced_steps(count, last):
    steps = log_spaced(count, last)
    assert (steps[0], steps[-1]) == (0, last)
    assert len(steps) <= min(count, last + 1)
    assert list(steps) == sorted(set(steps))
    grown = [(b + 1) / (a + 1) for a, b in itertools.pairwise(steps) if a > 100]
    assert not grown or max(grown) / min(grown) < 1.02


def test_what_checkpoints_cannot_be():
    for tree, text in [
        ({"checkpoints": [3, 1001]}, "measure.gradients.checkpoints: 1001 is beyond the reference's last step, 1000"),
        ({"checkpoints": 1}, "measure.gradients.checkpoints: expected an integer >= 2 or a list, each"),
        ({"checkpoints": [-1]}, "measure.gradients.checkpoints: expected an integer >= 2 or a list, each"),
        ({"reference": {"stepz": 3}}, "measure.gradients.reference.stepz: unknown key (did you mean 'steps'?)"),
        ({"reference": "iwa"}, "measure.gradients.reference: unknown estimator 'iwa' (did you mean 'iwae'?)"),
        ({"reference": {"estimator": "iwa"}}, "measure.gradients.reference.estimator: unknown estimator 'iwa'"),
        ({"reference": ["iwae"]}, "measure.gradients.reference: expected a mapping of"),
        ({"reference": {"lr": 0}}, "measure.gradients.reference.lr: expected a number > 0"),
    ]:
        with pytest.raises(GridError) as caught:
            shared(tree)
        (line,) = caught.value.lines
        assert line.startswith(text)


@pytest.mark.parametrize(("name", "value"), [("reference", "iwae"), ("checkpoints", 5), ("checkpoints", [5])])
def test_only_where_it_is_shared(name, value):
    with pytest.raises(GridError, match=rf"\Ameasure\.gradients\.{name}: only with at: shared\Z"):
        measure({"gradients": {name: value}})
    assert measure({"gradients": {name: None}}).gradients == Gradients()


def test_every_beyond_the_training_is_its_last_step():
    assert Measure(every=500).steps(10) == (10,)


def test_targets():
    assert measure({"gradients": {"target": "evidence"}}).gradients == Gradients(target="evidence")
    for text in ("iwae", "iwae[k=5]"):
        found = measure({"gradients": {"target": text}}).gradients
        assert found == Gradients(target="iwae[k=5,beta=1.0,learned=false]", target_draws=1000)
    assert measure({"gradients": {"target": "iwae", "target_draws": 7}}).gradients.target_draws == 7
    for tree, text in [
        ({"target": "evidense"}, "measure.gradients.target: unknown estimator 'evidense'"),
        ({"target_draws": 5}, "measure.gradients.target_draws: only with an estimator as target"),
        ({"target": "bound", "target_draws": 5}, "measure.gradients.target_draws: only with an estimator as target"),
    ]:
        with pytest.raises(GridError) as caught:
            measure({"gradients": tree})
        (line,) = caught.value.lines
        assert line.startswith(text)


@pytest.mark.parametrize(
    ("shorter", "longer", "goes_on"),
    [
        ({"steps": 20}, {"steps": 40}, True),
        ({"steps": 20, "clip": 1.0, "optimizer": "sgd"}, {"steps": 21, "clip": 1.0, "optimizer": "sgd"}, True),
        ({"steps": 40}, {"steps": 40}, False),
        ({"steps": 41}, {"steps": 40}, False),
        ({"steps": 0}, {"steps": 40}, False),
        ({"steps": 20}, {"steps": 40, "lr": 0.1}, False),
        ({"steps": 20, "inner": Inner()}, {"steps": 40, "inner": Inner()}, True),
        ({"steps": 20, "inner": Inner()}, {"steps": 40}, False),
        ({"steps": 20, "patience": 2}, {"steps": 40, "patience": 2}, False),
        ({"budget": Budget(evaluations=5)}, {"steps": 2000}, False),
        ({"steps": 20, "inner": Inner(until=0.5)}, {"steps": 40, "inner": Inner(until=0.5)}, False),
        ({"steps": 20, "schedule": "step", "warmup": 5}, {"steps": 40, "schedule": "step", "warmup": 5}, True),
        ({"steps": 20, "schedule": "step"}, {"steps": 40}, False),
        ({"steps": 20, "warmup": 5}, {"steps": 40}, False),
        ({"steps": 20, "schedule": "cosine"}, {"steps": 40, "schedule": "cosine"}, False),
        ({"steps": 20, "schedule": "linear"}, {"steps": 40, "schedule": "linear"}, False),
    ],
)
def test_training_that_only_goes_on(shorter, longer, goes_on):
    assert Train(**longer).goes_on_from(Train(**shorter)) is goes_on


def test_a_field_that_nobody_has_thought_of_must_be_idle(monkeypatch):
    from vbench.grid import settings

    monkeypatch.setattr(settings, "_STEADY", settings._STEADY - {"clip"})
    assert Train(steps=40).goes_on_from(Train(steps=20))
    assert not Train(steps=40, clip=1.0).goes_on_from(Train(steps=20, clip=1.0))
