"""The forms that people fill in: what they accept, what they refuse."""

from __future__ import annotations

import copy

import airflow_here  # noqa: F401
import pytest
from airflow.sdk.exceptions import ParamValidationError

GOOD = {
    "train_detector": [
        {},
        {"snapshot": "ab" * 32, "recipe": "rtmdet_tiny", "changes": ["iterations=400"]},
        {"changes": None},
        {"changes": ["pretrained=", "pretrained=s3://" + "a" * 250 + ".safetensors#sha256=" + "ab" * 32]},
        {"recipe": "dino_r50", "changes": ["precision=bfloat16", "pretrained=pretrained/r50.safetensors#sha256=" + "ab" * 32]},
    ],
    "backfill_category": [
        {"category": "grenade", "product_lines": ["hold_baggage"]},
        {
            "category": "grenade",
            "product_lines": ["hold_baggage", "cabin_baggage"],
            "since": "2026-01-31",
            "until": "2026-02-28",
            "budget": 10,
        },
    ],
}
BAD = {
    "train_detector": [
        {"snapshot": "../../etc/passwd"},
        {"snapshot": "AB" * 32},
        {"recipe": "os.system"},
        {"recipe": "yolox_s"},
        {"recipe": "a" * 64},
        {"recipe": "{{ var.value.x }}"},
        {"changes": ["--help"]},
        {"changes": ["iterations"]},
        {"changes": ["__class__=1"]},
        {"changes": "iterations=400"},
        {"changes": ["iterations=1"] * 21},
        {"changes": ["iterations=1\n--help"]},
        {"changes": ["iterations=1\n"]},
        {"changes": ["pretrained=" + "a" * 1101]},
        {"changes": ["\uff49terations=1"]},
        {"changes": [400]},
    ],
    "backfill_category": [
        {},
        {"category": "grenade", "product_lines": []},
        {"category": "grenade; drop table scans", "product_lines": ["hold_baggage"]},
        {"category": "grenade", "product_lines": ["--category=x"]},
        {"category": "grenade", "product_lines": ["hold_baggage"], "budget": 0},
        {"category": "grenade", "product_lines": ["hold_baggage"], "budget": "many"},
        {"category": "grenade", "product_lines": ["hold_baggage"], "since": "yesterday"},
    ],
}


def _cases(table):
    return [pytest.param(dag_id, entered, id=f"{dag_id}-{number}") for dag_id, many in table.items() for number, entered in enumerate(many)]


def _filled(dags, dag_id: str, entered: dict) -> dict:
    """What a run gets, as Airflow fills and checks a form."""
    params = copy.deepcopy(dags[dag_id].params)
    for name, value in entered.items():
        params[name] = value
    return params.validate()


@pytest.mark.parametrize(("dag_id", "entered"), _cases(GOOD))
def test_accepts(dags, dag_id: str, entered: dict) -> None:
    assert _filled(dags, dag_id, entered) | entered == _filled(dags, dag_id, entered)


@pytest.mark.parametrize(("dag_id", "entered"), _cases(BAD))
def test_refuses(dags, dag_id: str, entered: dict) -> None:
    with pytest.raises(ParamValidationError):
        _filled(dags, dag_id, entered)


def test_every_field_explains_itself(dags) -> None:
    for dag in dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            assert param.schema["title"], (dag.dag_id, name)
            assert param.description.endswith((".", "=400")), (dag.dag_id, name)


def test_a_dag_with_a_form_says_so(dags) -> None:
    assert {dag.dag_id for dag in dags.values() if dag.params} == {dag.dag_id for dag in dags.values() if "form" in dag.tags}


def test_the_form_offers_the_recipes_that_there_are(dags) -> None:
    from scanloop.training.recipes import RECIPES

    assert dags["train_detector"].params.get_param("recipe").schema["enum"] == [None, *RECIPES]
