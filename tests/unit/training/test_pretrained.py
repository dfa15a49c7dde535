"""Weights from elsewhere: named with their digest, inside the store, safetensors only; what does not fit is said."""

from __future__ import annotations

import hashlib
import logging

import pytest
import torch

from scanloop.errors import DataWrong, WrongArguments
from scanloop.training.network import weights_bytes
from scanloop.training.options import TrainingOptions, options_from
from scanloop.training.pretrained import PretrainedWeights, fetch_pretrained, parse_pretrained, with_pretrained

DIGEST = "ab" * 32
FRESH = {
    "backbone.conv1.weight": torch.zeros(4, 3),
    "backbone.norm.count": torch.zeros((), dtype=torch.long),
    "head.weight": torch.zeros(2, 4),
}


@pytest.mark.parametrize("where", ["pretrained/r50.safetensors", "a.safetensors"])
def test_a_key_and_an_address_name_the_same(store, where):
    named = PretrainedWeights(where, DIGEST)
    assert parse_pretrained(f"{where}#sha256={DIGEST}", store) == named
    assert parse_pretrained(f"{store.uri(where)}#sha256={DIGEST}", store) == named
    assert parse_pretrained("", store) is None


@pytest.mark.parametrize(
    "where",
    ["file:///etc/passwd.safetensors", "https://example.org/a.safetensors", "../a.safetensors", "/a.safetensors", "a//b.safetensors"],
)
def test_what_is_not_in_the_store_is_refused(store, where):
    with pytest.raises(WrongArguments, match="Training option pretrained"):
        parse_pretrained(f"{where}#sha256={DIGEST}", store)


@pytest.mark.parametrize(
    "value",
    ["a.safetensors", "a.pth#sha256=" + DIGEST, "a.safetensors#sha256=abc", "a b.safetensors#sha256=" + DIGEST, "#sha256=" + DIGEST],
)
def test_other_names_are_refused(value):
    with pytest.raises(WrongArguments, match="Training option pretrained"):
        options_from({}, [f"pretrained={value}"])


def put(store, content):
    """Keep a file; returns the option that names it."""
    store.put("w.safetensors", content)
    return parse_pretrained(f"w.safetensors#sha256={hashlib.sha256(content).hexdigest()}", store)


def test_a_file_comes_back_as_it_was_put(store, tmp_path):
    weights = fetch_pretrained(store, put(store, weights_bytes({"x": torch.ones(2)})), tmp_path / "w")
    assert weights["x"].tolist() == [1, 1]


def test_a_missing_file_is_refused(store, tmp_path):
    with pytest.raises(DataWrong, match=r"w\.safetensors are not there"):
        fetch_pretrained(store, PretrainedWeights("w.safetensors", DIGEST), tmp_path / "w")


def test_another_file_than_was_named_is_refused(store, tmp_path):
    named = put(store, weights_bytes({"x": torch.ones(2)}))
    store.put("w.safetensors", weights_bytes({"x": torch.zeros(2)}))
    with pytest.raises(DataWrong, match="has the digest"):
        fetch_pretrained(store, named, tmp_path / "w")


def test_a_pickle_is_refused(store, tmp_path):
    with pytest.raises(DataWrong, match="not a safetensors file"):
        fetch_pretrained(store, put(store, b"\x80\x04K\x01."), tmp_path / "w")


@pytest.mark.parametrize("prefix", ["", "backbone."], ids=["names of its own", "names of the network"])
def test_a_backbone_is_taken_and_the_rest_stays(prefix):
    given = {f"{prefix}conv1.weight": torch.ones(4, 3, dtype=torch.float16), f"{prefix}norm.count": torch.tensor(7)}
    started = with_pretrained(FRESH, given)
    assert started["backbone.conv1.weight"].dtype == torch.float32
    assert (started["backbone.conv1.weight"].sum(), started["backbone.norm.count"], started["head.weight"].sum()) == (12, 7, 0)
    assert FRESH["backbone.conv1.weight"].sum() == 0


def test_layers_that_do_not_fit_are_listed(caplog):
    given = {"backbone.conv1.weight": torch.ones(4, 3), "head.weight": torch.ones(80, 4), "head.extra": torch.ones(1)}
    with caplog.at_level(logging.INFO, "scanloop.training.pretrained"):
        started = with_pretrained(FRESH, given)
    assert started["head.weight"].shape == (2, 4)
    assert "1 of the network's 3 layers taken" in caplog.text
    assert "head.weight (80, 4), here (2, 4); head.extra (1,), not here." in caplog.text


def test_weights_of_another_network_are_refused():
    with pytest.raises(DataWrong, match=r"None of the 1 pretrained layers fits this recipe; the first is stem\.weight"):
        with_pretrained(FRESH, {"stem.weight": torch.ones(4, 3)})


SPOILT = {
    "not a number": torch.full((4, 3), torch.nan),
    "infinite": torch.full((4, 3), torch.inf),
    "too large for float32": torch.full((4, 3), 1e300, dtype=torch.float64),
    "complex": torch.ones(4, 3, dtype=torch.complex64),
    "truth values": torch.ones(4, 3, dtype=torch.bool),
    "whole numbers": torch.ones(4, 3, dtype=torch.int64),
}


@pytest.mark.parametrize("layer", SPOILT.values(), ids=SPOILT)
def test_weights_that_are_no_numbers_are_refused(layer):
    with pytest.raises(DataWrong, match=r"The pretrained layer backbone\.conv1\.weight .* holds what is no finite float32"):
        with_pretrained(FRESH, {"conv1.weight": layer})


def test_names_in_a_file_cannot_write_to_a_terminal(caplog):
    with caplog.at_level(logging.INFO, "scanloop.training.pretrained"):
        with_pretrained(FRESH, {"conv1.weight": torch.ones(4, 3), "\u202eevil\n\x1b[31m": torch.ones(1), "x" * 5000: torch.ones(1)})
    assert r"'backbone.\u202eevil\n\x1b[31m'" in caplog.text
    assert "\x1b" not in caplog.text
    assert len(caplog.text) < 1000


def test_precision_and_patience_are_checked():
    assert TrainingOptions(patience=1, validate_interval=5).patience == 1
    with pytest.raises(WrongArguments, match="Training options: patience needs a validate_interval"):
        options_from({}, ["patience=2"])
    with pytest.raises(WrongArguments, match="Training option precision"):
        options_from({}, ["precision=int8"])
