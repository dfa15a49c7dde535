"""A training stops when it has learned what it can, keeps its best weights, and goes on exactly, in every recipe and precision."""

from __future__ import annotations

import pytest
from fit_world import CATEGORIES, Killed, id_of, train

from scanloop.errors import WrongArguments
from scanloop.store import open_store
from scanloop.training.config import make_config
from scanloop.training.options import TrainingOptions
from scanloop.training.stopping import Progress

LOOKS = {2: 0.0, 4: 0.5, 6: 0.4, 8: 0.3, 10: 0.9}
STOPPING = {"iterations": 12, "validate_interval": 2, "patience": 2, "state_interval": 3}


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        pytest.param([], Progress(), id="nothing"),
        pytest.param([0.0, 0.0, 0.0], Progress(), id="nothing found yet is not the end"),
        pytest.param([0.2, 0.3], Progress(0.3, 2, 0), id="better"),
        pytest.param([0.3, 0.3, 0.1], Progress(0.3, 1, 2), id="no better"),
        pytest.param([0.3, 0.1, 0.4], Progress(0.4, 3, 0), id="better after all"),
    ],
)
def test_what_looks_amount_to(looks, expected):
    progress = Progress()
    for iteration, ap50 in enumerate(looks, start=1):
        progress = progress.after(iteration, ap50)
    assert progress == expected


def test_without_patience_nothing_stops():
    assert not Progress(0.5, 1, 99).is_over(0)
    assert Progress(0.5, 1, 2).is_over(2)
    assert not Progress(0.5, 1, 1).is_over(2)


class Judge:
    """Says what it is told to, one look after the other; a training that goes on begins with a judge who knows how far it came."""

    def __init__(self, looked=0):
        self.iterations = list(LOOKS)[looked:]

    def __call__(self, network):
        assert not network.training
        return LOOKS[self.iterations.pop(0)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(tmp_path_factory.mktemp("unbroken"), look=Judge(), **STOPPING)


def test_a_training_stops_and_keeps_its_best_weights(unbroken, tmp_path):
    assert [(done, values["val_ap50"]) for done, values in unbroken.curves if "val_ap50" in values] == [
        (2, 0.0),
        (4, 0.5),
        (6, 0.4),
        (8, 0.3),
    ]
    assert len(unbroken.curves) == 8
    with pytest.raises(Killed):
        train(tmp_path, killed_after=5, look=Judge(), **STOPPING | {"state_interval": 4})
    state = states_of(tmp_path).newest()
    best = {name.removeprefix("module."): value for name, value in state["ema"].items() if name.startswith("module.")}
    assert all((best[name] == value).all() for name, value in unbroken.weights.items())


def states_of(folder):
    from scanloop.training.state import StateStore

    return StateStore(open_store((folder / "store").as_uri()), "training/x", "f")


@pytest.mark.parametrize(("killed_after", "looked"), [(4, 1), (7, 3), (8, 3)])
def test_a_resumed_training_stops_where_an_unbroken_one_does(tmp_path, unbroken, killed_after, looked):
    with pytest.raises(Killed):
        train(tmp_path, killed_after=killed_after, look=Judge(), **STOPPING)
    resumed = train(tmp_path, look=Judge(looked), **STOPPING)
    assert resumed.resumed_at == (killed_after - 1) // 3 * 3
    assert resumed.curves == unbroken.curves
    assert id_of(resumed) == id_of(unbroken)


def test_looks_without_patience_change_nothing(tmp_path):
    few = {"iterations": 4, "state_interval": 9}
    looked = train(tmp_path, look=Judge(), validate_interval=2, **few)
    assert id_of(looked) == id_of(train(tmp_path / "b", **few))
    assert [values.get("val_ap50") for _, values in looked.curves] == [None, 0.0, None, 0.5]


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        pytest.param("rtmdet_tiny", {"precision": "bfloat16"}, id="bfloat16"),
        pytest.param("rtmdet_tiny", {"ema_momentum": 1}, id="no averaging"),
        pytest.param("rtmdet_tiny", {"workers": 1, "deterministic": True}, id="a loader process"),
        pytest.param("faster_rcnn_r18", {"batch_size": 1}, id="two stages"),
        pytest.param("dino_r18", {"batch_size": 1, "queries": 20, "precision": "bfloat16"}, id="DINO in bfloat16"),
    ],
)
def test_every_kind_of_training_goes_on_exactly_even_from_an_older_state(tmp_path, recipe, options):
    values = {"recipe": recipe, "iterations": 3, "state_interval": 1, **options}
    unbroken = train(tmp_path / "unbroken", **values | {"workers": 0, "state_interval": 9})
    with pytest.raises(Killed):
        train(tmp_path, killed_after=3, **values)
    newest = states_of(tmp_path).records()[0]
    assert newest.iteration == 2
    kept = open_store((tmp_path / "store").as_uri())
    kept.put("training/x/state-00000002.pt", b"damaged")
    resumed = train(tmp_path, **values)
    assert resumed.resumed_at == 1
    assert resumed.curves == unbroken.curves
    assert id_of(resumed) == id_of(unbroken)


def test_bfloat16_is_near_float32_and_is_not_it(tmp_path):
    few = {"iterations": 2}
    exact, rounded = train(tmp_path / "a", **few), train(tmp_path / "b", precision="bfloat16", **few)
    assert rounded.curves[0][1]["loss"] == pytest.approx(exact.curves[0][1]["loss"], rel=0.02)
    assert id_of(exact) != id_of(rounded)
    assert {str(value.dtype) for value in rounded.weights.values()} == {"torch.float32", "torch.int64"}


def test_float16_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(WrongArguments, match="float16 needs a GPU"):
        train(tmp_path, precision="float16", device="cpu")


def test_the_environment_of_a_training_is_noted(tmp_path):
    noted = train(tmp_path, iterations=1).environment
    assert (noted["device"], noted["threads"], noted["processes"]) == ("cpu", 1, 1)
    assert set(noted) == {"torch", "device", "cpu", "cpu_capability", "threads", "processes", "libraries"}


def test_a_stored_configuration_keeps_every_option():
    options = TrainingOptions(patience=1, validate_interval=5, precision="bfloat16", workers=3)
    assert make_config("rtmdet_tiny", options, CATEGORIES).options == options
