"""Only known options with fitting values; a stored configuration can name, but never execute."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from scanloop.errors import DataWrong, WrongArguments
from scanloop.product_lines import Training
from scanloop.training.config import config_from_bytes, make_config
from scanloop.training.options import TrainingOptions
from scanloop.training.recipes import RECIPES, resolve_options
from scanloop.training.recipes.rtmdet import rtmdet_tiny

CATEGORIES = ("handgun", "knife")


def test_the_command_line_wins_over_the_product_line():
    options = resolve_options("rtmdet_tiny", {"iterations": 50, "size_px": 256}, ["iterations=7", "planes=high,low", "warm_start=false"])
    assert (options.iterations, options.size_px, options.planes, options.warm_start) == (7, 256, ("high", "low"), False)


def test_every_choice_of_a_product_line_is_an_option():
    assert set(Training.model_fields) - {"recipe"} <= set(TrainingOptions.model_fields)


@pytest.mark.parametrize(
    "override",
    [
        "iterations",
        "recipe=rtmdet_tiny",
        "model.backbone.type=os.system",
        "__class__=x",
        "iterations=0",
        "iterations=1.5",
        "learning_rate=-1",
        "learning_rate=nan",
        "size_px=100",
        "planes=high,zeff",
        "planes=",
        "seed=-1",
        "warm_start=perhaps",
        "clip_norm=inf",
        "clip_norm=1e400",
        "iterations=true",
        "iterations=99999999999999999999999",
        "state_interval=99999999999999999999999",
        "validate_interval=99999999999999999999999",
        "planes=high,high",
        "planes=high,,low",
        "pretrained=" + "a" * 5000 + ".safetensors#sha256=" + "a" * 64,
        "\uff49terations=5",
        "=5",
    ],
)
def test_other_overrides_are_refused(override):
    with pytest.raises(WrongArguments):
        resolve_options("rtmdet_tiny", {}, [override])


@pytest.mark.parametrize(
    "section", [{"iterations": True}, {"learning_rate": True}, {"seed": False}, {"iterations": 5.5}, {"planes": "high"}]
)
def test_other_values_of_a_section_are_refused(section):
    with pytest.raises(WrongArguments, match=f"Training option {next(iter(section))}"):
        resolve_options("rtmdet_tiny", section, [])


@pytest.mark.parametrize("name", [name for name, field in TrainingOptions.model_fields.items() if field.annotation in (int, float)])
def test_every_number_has_bounds(name):
    """What is accepted can be computed with: nothing is infinite, and no whole number is beyond what a loop or a file can hold."""
    for huge in ("inf", "-inf", "nan", "9" * 30, "-" + "9" * 30):
        with pytest.raises(WrongArguments, match=f"Training option {name}"):
            resolve_options("dino_r18", {}, [f"{name}={huge}"])


def test_recipes_are_chosen_by_name_only():
    with pytest.raises(WrongArguments, match="Known: rtmdet_tiny"):
        make_config("scanloop.training.recipes.rtmdet_tiny", TrainingOptions(), CATEGORIES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_configuration_survives_the_store(name):
    config = make_config(name, TrainingOptions(iterations=9), CATEGORIES)
    content = config.to_bytes()
    assert config_from_bytes(content) == config
    assert config_from_bytes(content).to_bytes() == content


def test_the_schedule_covers_every_iteration():
    for iterations in (1, 2, 7, 100):
        scheduled = rtmdet_tiny(TrainingOptions(iterations=iterations), CATEGORIES).param_scheduler
        edges = [(scheduler["begin"], scheduler["end"]) for scheduler in scheduled]
        assert edges[0][0] == 0
        assert edges[-1][1] == iterations
        assert all(before[1] == after[0] for before, after in pairwise(edges))


def changed(**changes):
    """A stored configuration with other values."""
    content = json.loads(make_config("rtmdet_tiny", TrainingOptions(), CATEGORIES).to_bytes())
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not json", id="no json"),
        pytest.param(b"{}", id="empty"),
        pytest.param(changed(recipe="os.system"), id="recipe"),
        pytest.param(changed(format="scanloop.model/99"), id="format"),
        pytest.param(changed(options={"iterations": 5, "custom_imports": "os"}), id="option"),
        pytest.param(changed(categories=[]), id="no category"),
        pytest.param(changed(postprocess={"eval": "1"}), id="postprocess"),
        pytest.param(changed(preprocess={"version": 0, "size_px": 320, "planes": ["high"]}), id="preprocess"),
        pytest.param(changed(extra=1), id="unknown field"),
    ],
)
def test_other_stored_configurations_are_refused(content):
    with pytest.raises(DataWrong):
        config_from_bytes(content)


def test_what_a_stored_configuration_resolves_to_is_never_built(tmp_path):
    """`resolved` is for people: a type in it that would run code is kept, shown, and built by nobody."""
    from scanloop.training.network import build_model, weights_bytes

    trap = tmp_path / "sprung"
    hostile = {"model": {"type": "pathlib.Path.write_text", "self": str(trap), "data": "x"}}
    config = config_from_bytes(changed(resolved=hostile))
    honest = make_config("rtmdet_tiny", TrainingOptions(), CATEGORIES)
    assert weights_bytes(build_model(config).state_dict()) == weights_bytes(build_model(honest).state_dict())
    assert not trap.exists()
