"""What fuzzing found once is tried every time: each kept file still ends as it did, and none breaks a rule."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing.corpus import FOLDER, Kept, load
from fuzzing.oracles import judge
from fuzzing.run import through_reader

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom.charset")  # odd texts are what is tried
KEPT = list(load())
MAX_KEPT_BYTES, MAX_CORPUS_BYTES = 8 << 10, 1 << 20


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept.path.stem)
def test_a_kept_file_ends_as_it_did(kept: Kept) -> None:
    verdict = judge(kept.file.content, kept.file.sidecar, is_thorough=True)
    assert verdict.code == kept.code, verdict.shape


def test_the_confined_reader_survives_every_kept_file(tmp_path: Path) -> None:
    tallies, broken = through_reader(((kept.family, kept.file) for kept in KEPT), tmp_path)
    assert broken == []
    assert sum(tally.tried for tally in tallies.values()) == len(KEPT)


def test_the_corpus_is_small_and_of_every_format() -> None:
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    assert max(sizes) < MAX_KEPT_BYTES
    assert sum(sizes) < MAX_CORPUS_BYTES
    assert {kept.family for kept in KEPT} >= {"dicom", "tiff", "png", "json"}
    assert len({kept.code for kept in KEPT}) >= 10
    assert any(kept.path.name.startswith("broke-") for kept in KEPT)
