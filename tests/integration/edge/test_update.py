"""A device takes signed releases and nothing else: The Update Framework's attacks, on real metadata, with every installed byte compared."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from release_world import NOW, Channel, assert_whole, snapshot_of, variant

from scanloop.edge import install
from scanloop.edge.channel import UpdateRefused, fetch_first_root
from scanloop.edge.device import DeviceHome, enrol
from scanloop.edge.state import load_state, save_state
from scanloop.edge.update import update
from scanloop.errors import DataWrong, NothingToDo, WorldUnavailable, WrongArguments


@pytest.fixture
def second(bundle, tmp_path) -> Path:
    return variant(bundle, tmp_path / "second", "second")


def refused(home: DeviceHome, because: str, **options) -> None:
    """An update must be refused for this reason and change nothing of what runs."""
    before = snapshot_of(home)
    with pytest.raises(UpdateRefused, match=because):
        update(home, **options)
    assert snapshot_of(home) == before
    assert_whole(home)


def test_releases_are_installed_one_after_the_other_and_the_last_two_are_kept(channel, device, bundle, second, tmp_path):
    assert assert_whole(device) == 1
    channel.release(second, 2)
    assert update(device).to_json()["previous"] == 1
    channel.release(bundle, 3)
    updated = update(device)
    assert (updated.version, updated.model_id, updated.selfcheck["alarms"] > 0) == (3, "model-3", True)
    assert snapshot_of(device)["counter"] == 3
    assert sorted(path.name for path in device.versions.iterdir()) == ["2", "3"]
    with pytest.raises(NothingToDo):
        update(device)


def test_before_the_first_release_there_is_nothing_to_do(channel, tmp_path):
    home = channel.device(tmp_path / "device")
    with pytest.raises(NothingToDo):
        update(home)
    assert assert_whole(home) is None


def test_a_usb_medium_serves_a_device_without_network(channel, device, second, tmp_path):
    channel.release(second, 2)
    medium = channel.copy(tmp_path / "medium")
    shutil.rmtree(channel.files)
    with pytest.raises(WorldUnavailable):
        update(device)
    assert update(device, channel_url=medium).version == 2


def test_releases_come_over_http(channel, device, second):
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    channel.release(second, 2)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(channel.files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert update(device, channel_url=f"http://127.0.0.1:{server.server_port}").version == 2
    finally:
        server.shutdown()
        server.server_close()


def test_an_old_copy_of_the_channel_is_a_rollback(channel, device, second, tmp_path):
    old = channel.copy(tmp_path / "old")
    channel.release(second, 2)
    update(device)
    refused(device, "cannot be trusted: New timestamp version", channel_url=old)


def test_a_channel_that_stands_still_is_frozen_once_its_word_expires(channel, device):
    refused(device, "frozen", clock=lambda: NOW + timedelta(days=2))


def test_a_clock_that_is_set_back_does_not_revive_what_expired(channel, device, second):
    save_state(device.state, load_state(device.state).with_clock(NOW + timedelta(days=3)))
    refused(device, "frozen", clock=lambda: NOW - timedelta(days=365))


def test_a_clock_far_ahead_refuses_and_does_not_lock_the_device_out(channel, device, second):
    refused(device, "frozen", clock=lambda: NOW + timedelta(days=3650))
    channel.release(second, 2)
    assert update(device).version == 2


def test_the_clock_of_the_device_only_moves_forward(channel, device, second):
    before = load_state(device.state).clock
    channel.release(second, 2)
    update(device, clock=lambda: NOW - timedelta(days=1))
    assert load_state(device.state).clock == before


def test_a_refreshed_timestamp_thaws_the_channel(channel, device, second):
    channel.now = NOW + timedelta(hours=23)
    channel.signer.refresh()
    channel.release(second, 2)
    assert update(device, clock=lambda: NOW + timedelta(hours=30)).version == 2


def test_metadata_of_two_states_do_not_mix(channel, device, second, tmp_path):
    first = tmp_path / "first"
    channel.copy(first)
    channel.release(second, 2)
    newest = max(channel.files.glob("metadata/*.snapshot.json"), key=lambda path: int(path.name.split(".")[0]))
    older = max(first.glob("metadata/*.snapshot.json"), key=lambda path: int(path.name.split(".")[0]))
    newest.write_bytes(older.read_bytes())
    refused(device, "cannot be trusted")


def test_metadata_of_another_repository_is_refused(channel, device, bundle, tmp_path):
    other = Channel(tmp_path / "other")
    other.release(bundle, 9)
    refused(device, "cannot be trusted", channel_url=other.url)


def test_a_changed_byte_in_the_model_is_refused(channel, device, second):
    (second / "model.onnx").write_bytes((second / "model.onnx").read_bytes() + b"\0")
    channel.release(second, 2)
    for path in channel.files.glob("targets/cabin/file/*.model.onnx"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    refused(device, "cannot be trusted")


def test_a_file_longer_than_signed_is_refused_before_it_fills_the_disk(channel, device, second):
    channel.release(second, 2)
    (path,) = [path for path in channel.files.glob("targets/cabin/file/*.evidence.json") if b"second" in path.read_bytes()]
    with path.open("r+b") as evidence:
        evidence.truncate(1 << 40)
    refused(device, "cannot be trusted: Downloaded .* bytes exceeding")


def test_a_manifest_edited_after_signing_is_refused(channel, device, second):
    channel.release(second, 2)
    for path in channel.files.glob("targets/cabin/channel/*.stable.json"):
        path.write_bytes(path.read_bytes().replace(b"model-2", b"model-9"))
    refused(device, "cannot be trusted")


def test_a_release_of_another_product_line_is_refused_even_when_signed_in_this_ones_place(channel, device, second):
    """A signer that is made to sign the wrong manifest: entitlement is checked on the device too."""
    from tuf.api.metadata import TargetFile

    from scanloop.edge.manifest import channel_target
    from scanloop.release.repository import with_targets
    from scanloop.release.signer import target_key

    sha256 = channel.release(second, 1, product_line="hold")
    data = channel.published.get(target_key(channel_target("hold", "stable"), sha256))
    path = channel_target("cabin", "stable")
    channel.published.put(target_key(path, sha256), data)
    signer = channel.signer
    keys = {role: signer.keys.signer(role) for role in ("line-cabin", "snapshot", "timestamp")}
    state = signer.state()
    after = with_targets(state, "cabin", [TargetFile.from_data(path, data, ["sha256"])], keys, channel.now, signer.expiries)
    signer.folder.commit(state, after)
    signer.folder.publish(after, channel.published)
    refused(device, "is for hold on stable; this device takes cabin on stable")


def test_one_product_lines_key_cannot_sign_for_another(channel, device, second):
    """The delegation binds each role to the paths of its own product line."""
    from scanloop.release.repository import RepositoryState, _signed, _tied

    channel.release(second, 2)
    signer = channel.signer
    state = signer.state()
    keys = {role: signer.keys.signer(role) for role in ("line-hold", "snapshot", "timestamp")}
    line = state.line("cabin")
    line.version += 1
    forged = RepositoryState({**state.roles, "line-cabin": _signed(line, keys["line-hold"])})
    after = _tied(forged, keys, channel.now, signer.expiries)
    signer.folder.commit(state, after)
    signer.folder.publish(after, channel.published)
    refused(device, "cannot be trusted: line-cabin was signed by 0/1 keys")


def test_a_lower_number_is_refused_though_it_is_signed(channel, device, bundle, second, tmp_path):
    channel.release(second, 5)
    update(device)
    channel.release(variant(bundle, tmp_path / "third", "third"), 4)
    refused(device, "this device had release 5")


def test_the_same_number_with_other_content_is_refused(channel, device, second):
    channel.release(second, 1)
    refused(device, "other content than the release 1")


def test_a_higher_number_with_the_old_model_is_the_lawful_way_back(channel, device, bundle, second):
    channel.release(second, 2)
    update(device)
    channel.release(bundle, 3, model_id="model-1")
    assert update(device).model_id == "model-1"


def test_a_release_that_fails_its_self_check_is_not_switched_to(channel, device, bundle, second):
    expected = json.loads((second / "selftest.json").read_bytes())
    expected["samples"]["class_logits_8"]["values"][3] += 1.0
    (second / "selftest.json").write_text(json.dumps(expected))
    channel.release(second, 2)
    refused(device, "self-check's outputs are 1 away")
    assert 2 in load_state(device.state).refused
    assert not (device.versions / "2").exists()
    refused(device, "was refused before")
    refused(device, "self-check's outputs", retry=True)
    channel.release(bundle, 3)
    assert update(device).version == 3


def test_a_network_that_crashes_its_runtime_is_refused(channel, device, second):
    (second / "model.onnx").write_bytes(b"\x08\x09not a network")
    channel.release(second, 2)
    refused(device, "cannot be loaded")


@pytest.mark.parametrize(
    ("name", "content", "because"),
    [
        ("preprocessing.json", {"version": 99, "size_px": 64, "planes": ["high", "low", "material"]}, "preprocessing version 99"),
        ("preprocessing.json", {"version": 1, "size_px": 96, "planes": ["high", "low", "material"]}, "its preprocessing makes 3 × 96 × 96"),
        ("labels.json", {"categories": ["handgun", "knife", "grenade"]}, "not usable"),
        ("thresholds.json", [], "not usable"),
    ],
    ids=["unknown preprocessing", "another size", "too many labels", "no thresholds"],
)
def test_parts_that_do_not_fit_each_other_are_refused(channel, device, second, name, content, because):
    (second / name).write_text(json.dumps(content))
    channel.release(second, 2)
    refused(device, because)


def test_a_damaged_release_falls_back_by_itself_and_is_fetched_again(channel, device, second):
    channel.release(second, 2)
    update(device)
    (device.versions / "2" / "model.onnx").write_bytes(b"bit rot")
    current, state = install.recover(device)
    assert current is not None
    assert (current.version, state.counter) == (1, 2)
    assert "model.onnx" in state.fall_back
    assert assert_whole(device) == 1
    assert update(device).version == 2
    assert load_state(device.state).fall_back == ""
    assert assert_whole(device) == 2


def test_a_device_whose_every_release_is_damaged_fetches_the_newest_again(channel, device):
    (device.versions / "1" / "labels.json").unlink()
    assert install.recover(device)[0] is None
    assert update(device).version == 1
    assert assert_whole(device) == 1


def test_a_lost_memory_is_raised_again_by_what_is_on_the_disk(channel, device, second):
    channel.release(second, 2)
    update(device)
    device.state.write_text("{damaged")
    assert install.recover(device)[1].counter == 2
    update(device)
    assert assert_whole(device) == 2


def test_a_link_in_place_of_a_file_is_damage(channel, device, second):
    channel.release(second, 2)
    update(device)
    model = device.versions / "2" / "model.onnx"
    model.unlink()
    model.symlink_to(device.versions / "1" / "model.onnx")
    assert install.recover(device)[0].version == 1


def test_a_channel_cannot_lead_out_of_its_folder(channel, device, second, tmp_path):
    channel.release(second, 2)
    outside = tmp_path / "outside.json"
    shutil.move(channel.files / "metadata" / "timestamp.json", outside)
    (channel.files / "metadata" / "timestamp.json").symlink_to(outside)
    with pytest.raises(WorldUnavailable, match="outside of the channel"):
        update(device)
    assert assert_whole(device) == 1


def test_a_pipe_on_a_medium_does_not_hang_the_device(channel, device):
    import os

    (channel.files / "metadata" / "timestamp.json").unlink()
    os.mkfifo(channel.files / "metadata" / "timestamp.json")
    with pytest.raises(WorldUnavailable, match="not a regular file"):
        update(device)


def test_two_updates_at_once_are_one(device):
    with device.locked(), pytest.raises(WorldUnavailable, match="Another process"):
        update(device)


def test_enrolling_twice_changes_nothing_and_differently_is_refused(channel, device):
    before = device.identity.read_bytes()
    channel.device(device.folder)
    assert device.identity.read_bytes() == before
    with pytest.raises(WrongArguments, match="already holds device"):
        channel.device(device.folder, product_line="hold")
    assert oct(device.key.stat().st_mode & 0o777) == "0o600"


def test_the_first_root_is_believed_by_its_digest_only(channel):
    digest = channel.ceremony.root_sha256
    assert fetch_first_root(channel.url, digest) == channel.root
    with pytest.raises(UpdateRefused, match="Do not trust this channel"):
        fetch_first_root(channel.url, digest.replace(digest[0], "0" if digest[0] != "0" else "1"))


@pytest.mark.parametrize("root", [b"", b"{}", b'{"signed": {"_type": "root"}, "signatures": []}'], ids=["empty", "no metadata", "half"])
def test_what_is_no_root_is_not_trusted(channel, tmp_path, root):
    with pytest.raises(DataWrong, match="trusted root"):
        enrol(DeviceHome(tmp_path / "d"), site="a", product_line="cabin", channel="stable", channel_url=channel.url, root=root)
    assert not (tmp_path / "d").exists()


def test_a_root_signed_by_somebody_else_is_not_trusted(channel, tmp_path):
    root = json.loads(channel.root)
    root["signed"]["expires"] = "2099-01-01T00:00:00Z"
    with pytest.raises(DataWrong, match="trusted root"):
        enrol(
            DeviceHome(tmp_path / "d"),
            site="a",
            product_line="cabin",
            channel="stable",
            channel_url=channel.url,
            root=json.dumps(root).encode(),
        )


def test_the_device_believes_no_other_root_than_the_one_it_was_enrolled_with(channel, device, bundle, tmp_path):
    other = Channel(tmp_path / "other")
    other.release(bundle, 9)
    shutil.rmtree(device.metadata)
    refused(device, "cannot be trusted", channel_url=other.url)


def test_state_never_shrinks():
    from scanloop.edge.state import DeviceState

    state = DeviceState().with_counter(5).with_clock(NOW)
    assert state.with_counter(3).counter == 5
    assert state.with_clock(NOW - timedelta(days=1)).clock == NOW
    assert replace(state, counter=7).with_installed(6, "x").counter == 7
