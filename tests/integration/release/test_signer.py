"""The signer signs what was decided and nothing else, however the request, the store or the catalog were changed."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from release_world import NOW, seed_champion
from small_world import rows_of

from scanloop.canonical import canonical_json
from scanloop.edge.manifest import channel_target, release_target
from scanloop.errors import DataWrong, WorldUnavailable, WrongArguments
from scanloop.execution.receipts import receipt_key
from scanloop.release.ceremony import check_apart, hold_ceremony, signer_lock
from scanloop.release.keys import open_keys
from scanloop.release.repository import Expiries
from scanloop.release.requests import SigningAnswer, answer_key, read_answer, request_key
from scanloop.release.signer import run_signer
from scanloop.release.verify import verify_release

WRONG_KINDS = canonical_json(
    {
        **dict.fromkeys(("release_id", "product_line", "channel", "model_id", "bundle_key", "bundle_sha256", "export_run_id"), "x"),
        "version": "1",
    }
)


def answered(deployment, outcome: str, because: str = "") -> SigningAnswer:
    (answer,) = deployment.signer.answer_all()
    assert answer.outcome == outcome, answer
    assert because in answer.reason
    return answer


def nothing_signed(deployment) -> None:
    state = deployment.signer.state()
    assert state.line("cabin").targets == {}
    assert not list(deployment.signer.channel.list("targets/cabin/channel/"))


def test_a_release_goes_from_request_to_channel_and_catalog(deployment, tmp_path):
    deployment.ask()
    answer = answered(deployment, "released")
    assert answer.target_path == release_target("cabin", 1)
    targets = deployment.signer.state().line("cabin").targets
    assert set(targets) == {channel_target("cabin", "stable"), release_target("cabin", 1)}
    result = deployment.publish()
    assert (result["state"], result["version"], result["target"]) == ("released", 1, "cabin/release/1.json")
    (row,) = rows_of(deployment.world, "releases")
    assert (row["state"], row["target_path"]) == ("released", "cabin/release/1.json")
    assert deployment.signer.answer_all() == []
    assert deployment.publish() == result


def test_a_device_installs_what_was_released(deployment, tmp_path):
    from scanloop.edge.device import DeviceHome, enrol
    from scanloop.edge.update import update

    deployment.ask()
    answered(deployment, "released")
    home = DeviceHome(tmp_path / "device")
    root = deployment.signer.channel.get("metadata/1.root.json")
    url = deployment.world.settings.channel_url
    enrol(home, site="ams", product_line="cabin", channel="stable", channel_url=url, root=root)
    assert update(home).model_id == deployment.exported["model_id"]


def test_the_publishing_job_waits_for_a_signer_that_is_slow(deployment):
    stop = threading.Event()
    late = threading.Timer(0.5, lambda: run_signer(deployment.signer, poll_s=0.1, stop=stop))
    late.start()
    try:
        assert deployment.publish(wait_s=60)["state"] == "released"
    finally:
        stop.set()
        late.join()


def test_without_a_signer_the_request_stays_open(deployment):
    with pytest.raises(WorldUnavailable, match="stays requested"):
        deployment.publish()
    assert rows_of(deployment.world, "releases")[0]["state"] == "requested"
    answered(deployment, "released")
    assert deployment.publish()["state"] == "released"


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"version": 7}, "the catalog 1"),
        ({"channel": "beta"}, "the catalog 'stable'"),
        ({"model_id": "ab" * 32}, "model_id"),
        ({"bundle_sha256": "ab" * 32}, "bundle_sha256"),
        ({"bundle_key": "bundles/ab/other.json"}, "bundle_key"),
        ({"export_run_id": "another"}, "another export run"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_request_that_differs_from_the_catalog_is_refused(deployment, changes, because):
    deployment.ask(**changes)
    answered(deployment, "refused", because)
    nothing_signed(deployment)


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (b"", "not a JSON object"),
        (b"[" * 60_000, "not a JSON object"),
        (b"{}", "does not have the fields"),
        (b"x" * (1 << 17), "longer than"),
        (WRONG_KINDS, "not of the right kind"),
    ],
    ids=["empty", "deep", "no fields", "too long", "wrong kinds"],
)  # fmt: skip
def test_what_is_no_request_is_refused(deployment, content, because):
    deployment.world.store.put(request_key(deployment.release_id), content)
    answered(deployment, "refused", because)
    nothing_signed(deployment)


def test_a_request_under_another_name_is_refused(deployment):
    deployment.ask()
    content = deployment.world.store.get(request_key(deployment.release_id))
    deployment.world.store.delete(request_key(deployment.release_id))
    deployment.world.store.put(request_key("cabin-9-0123456789ab"), content)
    answered(deployment, "refused", "another release than its name")
    nothing_signed(deployment)


@pytest.mark.parametrize("name", ["../../x.json", "cabin.json", "cabin-0-0123456789ab.json", "Cabin-1-0123456789ab.json", "x.txt"])
def test_names_that_are_no_release_are_passed_over(deployment, name):
    (deployment.world.settings.home / "store" / "signing" / "requests").mkdir(parents=True)
    if not name.startswith(".."):
        deployment.world.store.put(f"signing/requests/{name}", b"{}")
    assert deployment.signer.answer_all() == []
    with pytest.raises(DataWrong, match="not the id of a release"):
        request_key(name.removesuffix(".json"))


def test_an_invented_release_is_refused(deployment):
    deployment.ask()
    content = json.loads(deployment.world.store.get(request_key(deployment.release_id)))
    deployment.world.store.delete(request_key(deployment.release_id))
    forged = {**content, "release_id": "cabin-2-0123456789ab", "version": 2}
    deployment.world.store.put(request_key("cabin-2-0123456789ab"), canonical_json(forged))
    answered(deployment, "refused", "The catalog knows no release")
    nothing_signed(deployment)


def test_a_forged_row_with_a_forged_receipt_is_refused(deployment):
    """Somebody who writes the store and the catalog's releases, but could not run the export."""
    receipt = json.loads(deployment.world.store.get(receipt_key("one-export", "release.export")))
    receipt["run_id"] = "forged"
    deployment.world.store.put(receipt_key("forged", "release.export"), json.dumps(receipt).encode())
    deployment.sql("UPDATE releases SET run_id = 'forged'")
    deployment.ask()
    answered(deployment, "refused", "No completion receipt of run forged vouches")
    nothing_signed(deployment)


def test_a_receipt_that_was_edited_is_refused(deployment):
    key = receipt_key("one-export", "release.export")
    receipt = json.loads(deployment.world.store.get(key))
    receipt["result"]["release_id"] = "cabin-1-ffffffffffff"
    deployment.world.store.put(key, json.dumps(receipt).encode())
    deployment.ask()
    answered(deployment, "refused", "is not the one that the catalog remembers")
    nothing_signed(deployment)


def test_a_missing_receipt_is_refused(deployment):
    deployment.world.store.delete(receipt_key("one-promote", "promotion.promote"))
    deployment.ask()
    answered(deployment, "refused", "There is no receipt of promotion.promote")
    nothing_signed(deployment)


@pytest.mark.parametrize(
    ("statement", "because"),
    [
        ("UPDATE decisions SET verdict = 'reject'", "says reject, not promote"),
        ("UPDATE decisions SET needs_approval = true", "was changed after run"),
        ("UPDATE decisions SET evidence_sha256 = 'x'", "was changed after run"),
        ("UPDATE decisions SET product_line = 'hold'", "is about another model"),
        ("UPDATE champion_history SET sequence = 2; UPDATE champions SET sequence = 2", "made"),
        ("UPDATE champions SET sequence = 9", "knows no promotion behind"),
        ("DELETE FROM champions", "knows no champion"),
        ("UPDATE releases SET version = 3", "leaves out a number"),
        ("UPDATE releases SET bundle_sha256 = 'x'", "was changed after run"),
        ("UPDATE models SET weights_key = 'x'", "was changed after run"),
        ("UPDATE product_lines SET definition = jsonb_set(definition, '{release,channel}', '\"beta\"')", "is released on beta"),
        ("UPDATE runs SET receipt_sha256 = 'x' WHERE job = 'promotion.promote'", "was forged or changed"),
        ("UPDATE releases SET state = 'refused', reason = 'no'", "was refused already: no"),
    ],
)
def test_a_catalog_that_was_changed_by_hand_is_not_believed(deployment, statement, because):
    for each in statement.split(";"):
        deployment.sql(each)
    deployment.ask()
    answered(deployment, "refused", because)
    nothing_signed(deployment)


@pytest.mark.parametrize("what", ["evidence", "manifest", "network", "parity"])
def test_an_object_that_was_changed_after_its_receipt_is_refused(deployment, what):
    store = deployment.world.store
    (release,), (decision,) = rows_of(deployment.world, "releases"), rows_of(deployment.world, "decisions")
    manifest = json.loads(store.get(release["bundle_key"]))
    network = manifest["files"]["model.onnx"]["sha256"]
    key = {
        "evidence": decision["evidence_key"],
        "manifest": release["bundle_key"],
        "network": f"bundles/{network[:2]}/{network}.onnx",
        "parity": release["attributes"]["parity_key"],
    }[what]
    store.put(key, store.get(key).replace(b"a", b"b", 1) + b" ")
    deployment.ask()
    answered(deployment, "refused")
    nothing_signed(deployment)


def test_a_model_that_is_no_longer_champion_is_refused_and_the_job_says_so(deployment):
    seed_champion(deployment.run, deployment.world, seed=3, prefix="two")
    with pytest.raises(WorldUnavailable):
        deployment.publish()
    answered(deployment, "refused", "is not the champion of cabin")
    result = deployment.publish(run_id="publish-2")
    assert result["state"] == "refused"
    (row,) = rows_of(deployment.world, "releases")
    assert (row["state"], "is not the champion" in row["reason"]) == ("refused", True)
    nothing_signed(deployment)
    exported = deployment.export("two-export")
    assert exported["version"] == 2
    deployment.ask(exported["release_id"])
    answered(deployment, "released")


def test_an_approval_is_asked_for_again(deployment):
    from small_world import define

    gate = {"approval": "always", "approvers": ["ada", "grace"]}
    define(deployment.run, run_id="define-2", training={"size_px": 64}, gate=gate)
    seed_champion(deployment.run, deployment.world, seed=3, approver="ada", prefix="two")
    exported = deployment.export("two-export")
    deployment.ask(exported["release_id"])
    deployment.sql("UPDATE decisions SET approver = 'mallory' WHERE needs_approval")
    answered(deployment, "refused", "needs an approval by one of ada, grace")
    nothing_signed(deployment)


def test_a_forged_answer_is_not_believed_by_the_job(deployment):
    forged = SigningAnswer(deployment.release_id, "released", "", 1, "cabin/release/1.json")
    deployment.world.store.put(answer_key(deployment.release_id), forged.to_bytes())
    with pytest.raises(DataWrong, match="is not signed on"):
        deployment.publish()
    assert rows_of(deployment.world, "releases")[0]["state"] == "requested"


def test_a_forged_request_is_noticed_by_the_job(deployment):
    deployment.ask(channel="beta")
    with pytest.raises(DataWrong, match="it was forged"):
        deployment.publish()


def test_a_product_line_without_a_role_waits_for_a_ceremony(deployment):
    deployment.ask()
    content = json.loads(deployment.world.store.get(request_key(deployment.release_id)))
    other = "hold-1-" + deployment.release_id.rpartition("-")[2]
    deployment.world.store.put(request_key(other), canonical_json({**content, "release_id": other, "product_line": "hold"}))
    answered(deployment, "released")
    assert read_answer(deployment.world.store, other) is None
    hold_ceremony(deployment.signer.keys, deployment.signer.channel, ["hold"], NOW)
    answered(deployment, "refused", "The catalog knows no release")


def test_a_signed_release_is_not_signed_twice(deployment):
    deployment.ask()
    answered(deployment, "released")
    before = deployment.signer.state().roles["snapshot"].signed.version
    deployment.world.store.delete(answer_key(deployment.release_id))
    answered(deployment, "released")
    assert deployment.signer.state().roles["snapshot"].signed.version == before


def test_a_damaged_channel_is_made_whole_from_the_signers_copy(deployment, tmp_path):
    deployment.ask()
    answered(deployment, "released")
    channel = deployment.signer.channel
    for stored in list(channel.list("metadata/")):
        channel.put(stored.key, b"{}") if "timestamp" in stored.key else channel.delete(stored.key)
    deployment.signer.refresh()
    assert verify_release(channel, "cabin", 1, deployment.exported["bundle_sha256"], tmp_path / "scratch")


def test_words_are_renewed_before_they_expire(deployment):
    signer, expiries = deployment.signer, Expiries()
    versions = lambda: {role: metadata.signed.version for role, metadata in signer.state().roles.items()}  # noqa: E731
    before = versions()
    signer.refresh()
    assert versions() == before
    signer.now = lambda: NOW + expiries.timestamp * 0.6
    signer.refresh()
    assert versions() == {**before, "timestamp": before["timestamp"] + 1}
    signer.now = lambda: NOW + expiries.line * 0.6
    signer.refresh()
    after = versions()
    assert after["line-cabin"] == before["line-cabin"] + 1
    assert after["snapshot"] == before["snapshot"] + 1
    assert all(
        metadata.signed.expires > NOW + expiries.line * 0.6
        for role, metadata in signer.state().roles.items()
        if role not in ("root", "targets")
    )


def test_the_ceremony_can_be_repeated_and_extended_without_offline_keys_for_what_exists(deployment):
    signer = deployment.signer
    for role in ("root", "targets"):
        signer.keys.path(role).unlink()
    again = hold_ceremony(signer.keys, signer.channel, ["cabin"], NOW)
    assert again.added == ()
    with pytest.raises(WrongArguments, match="The targets key"):
        hold_ceremony(signer.keys, signer.channel, ["cabin", "hold"], NOW)


def test_keys_are_encrypted_and_private(deployment):
    home = deployment.signer.keys.home
    keys = sorted(path.relative_to(home).as_posix() for path in home.rglob("*.pem"))
    assert keys == ["offline/root.pem", "offline/targets.pem", "online/line-cabin.pem", "online/snapshot.pem", "online/timestamp.pem"]
    for name in keys:
        assert (home / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert (home / name).stat().st_mode & 0o077 == 0
    assert (home / "passphrase").stat().st_mode & 0o077 == 0
    assert home.stat().st_mode & 0o077 == 0


def test_a_wrong_passphrase_opens_nothing(deployment, tmp_path):
    (tmp_path / "other").write_text("another passphrase\n")
    keys = open_keys(deployment.signer.keys.home, tmp_path / "other")
    with pytest.raises(WrongArguments, match="does not open the timestamp key"):
        keys.signer("timestamp")
    (tmp_path / "short").write_text("short")
    with pytest.raises(WrongArguments, match="shorter than 12"):
        open_keys(deployment.signer.keys.home, tmp_path / "short")


def test_a_home_that_others_can_look_into_is_refused(deployment):
    home = deployment.signer.keys.home
    home.chmod(0o755)
    with pytest.raises(WrongArguments, match="chmod 700"):
        open_keys(home, None)


@pytest.mark.parametrize("place", ["store/signer", "store", "."], ids=["in the store", "the store itself", "around the store"])
def test_the_signers_home_lies_apart_from_what_jobs_read(tmp_path, place):
    with pytest.raises(WrongArguments, match="must lie apart"):
        check_apart(tmp_path / place, [(tmp_path / "store").as_uri()], [])


def test_there_is_one_signer_at_a_time(deployment):
    home = deployment.signer.keys.home
    with signer_lock(home), pytest.raises(WorldUnavailable, match="Another signer"), signer_lock(home):
        pass


def test_time_passes_without_a_signer_and_devices_notice(deployment, tmp_path):
    from scanloop.edge.channel import UpdateRefused
    from scanloop.edge.device import DeviceHome, enrol
    from scanloop.edge.update import update

    deployment.ask()
    answered(deployment, "released")
    home = DeviceHome(tmp_path / "device")
    url, root = deployment.world.settings.channel_url, deployment.signer.channel.get("metadata/1.root.json")
    enrol(home, site="ams", product_line="cabin", channel="stable", channel_url=url, root=root)
    with pytest.raises(UpdateRefused, match="frozen"):
        update(home, clock=lambda: NOW + timedelta(days=2))
    deployment.signer.now = lambda: NOW + timedelta(days=2)
    deployment.signer.refresh()
    assert update(home, clock=lambda: NOW + timedelta(days=2)).version == 1
