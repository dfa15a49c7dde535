"""A server that answers wrongly, loses answers or spoils what it stores; and who the store says it is."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from integration.store.s3_proxy import proxy_before

from scanloop.errors import ObjectConflict, ObjectCorrupt, StoreUnavailable
from scanloop.store import Store, open_store, s3


def _nothing(chance: random.Random, method: str, path: str) -> str | None:
    return None


def _mostly_well(share: float) -> Callable[[random.Random, str, str], str | None]:
    def fault(chance: random.Random, method: str, path: str) -> str | None:
        return chance.choice(["error", "reset", "lost"]) if chance.random() < share else None

    return fault


def _at(s3_url: str, address: str) -> str:
    return s3_url.partition("?")[0] + f"?endpoint_url={address}"


def _until_done(action: Callable[[], object], tries: int = 200) -> int:
    """Repeat as a job that is tried again does; returns how often that was."""
    for number in range(tries):
        try:
            action()
            return number
        except StoreUnavailable:
            continue
    raise AssertionError(f"{tries} tries were not enough")


@pytest.mark.parametrize(("share", "objects"), [(0.05, 150), (0.5, 50)])
def test_errors_resets_and_lost_answers_leave_every_object_whole_and_each_receipt_with_one_owner(
    s3_url: str, s3_endpoint: str, share: float, objects: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda seconds: None))
    with proxy_before(s3_endpoint, _mostly_well(share)) as proxy:
        store = open_store(_at(s3_url, proxy.url))
        for number in range(objects):
            content, key = f"content {number}".encode() * 50, f"receipts/{number}"
            _until_done(lambda content=content: store.put_content("blobs", content))
            _until_done(lambda key=key, content=content: store.put_if_absent(key, content, owner=f"owner of {key}"))
            with pytest.raises(ObjectConflict, match="another owner"):
                _until_done(lambda key=key: store.put_if_absent(key, b"late", owner="somebody else"))
    assert proxy.injected.total() > objects * share
    plain = open_store(s3_url)
    for number in range(objects):
        content = f"content {number}".encode() * 50
        assert plain.get(f"receipts/{number}") == content
    assert len(list(plain.list("blobs/"))) == objects


def test_every_lost_answer_of_a_conditional_write_is_recognised_as_a_success_of_its_own(s3_url: str, s3_endpoint: str) -> None:
    is_due = [False]

    def once(chance: random.Random, method: str, path: str) -> str | None:
        if is_due[0] and method == "PUT":
            is_due[0] = False
            return "lost"
        return None

    with proxy_before(s3_endpoint, once) as proxy:
        store = open_store(_at(s3_url, proxy.url))
        for number in range(50):
            is_due[0] = True
            _until_done(lambda key=f"receipts/{number}": store.put_if_absent(key, b"mine", owner="me"))
            assert not is_due[0]
        assert proxy.injected["lost"] == 50
        with pytest.raises(ObjectConflict):
            store.put_if_absent("receipts/0", b"mine", owner="you")


WRITES: dict[str, Callable[[Store, str, bytes, str], object]] = {
    "put": lambda store, key, content, etag: store.put(key, content),
    "put_if_absent": lambda store, key, content, etag: store.put_if_absent(key + ".new", content, owner="me"),
    "replace": lambda store, key, content, etag: store.replace(key, content, expected_etag=etag),
    "put_content": lambda store, key, content, etag: store.put_content("bad", content),
}


@pytest.mark.parametrize("how", ["cut", "flipped"])
@pytest.mark.parametrize("write", WRITES)
def test_what_a_server_stores_wrongly_is_always_detected(s3_url: str, s3_endpoint: str, how: str, write: str) -> None:
    with proxy_before(s3_endpoint, lambda chance, method, path: how if method == "PUT" and "/bad" in path else None) as proxy:
        store = open_store(_at(s3_url, proxy.url))
        for number in range(25):
            content, key = random.Random(number).randbytes(1 + number * 997), f"bad/{number}"
            etag = open_store(s3_url).put(key, b"before").etag
            with pytest.raises(ObjectCorrupt, match="read back different"):
                WRITES[write](store, key, content, etag)
        assert proxy.injected[how] >= 25


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of some kilobytes count as large ones."""
    monkeypatch.setattr(s3, "HELD_BYTES", 4096)


@pytest.mark.usefixtures("small_parts")
def test_large_files_are_sent_as_they_are_read_under_the_same_conditions(s3_url: str, tmp_path: Path) -> None:
    store, file, other = open_store(s3_url), tmp_path / "large", tmp_path / "other"
    file.write_bytes(bytes(range(256)) * 5000)
    other.write_bytes(file.read_bytes()[::-1])
    kept = store.put_content("blobs", file, ".bin")
    assert store.put_content("blobs", file, ".bin") == kept
    store.put(kept.key, other)
    assert store.put_content("blobs", file, ".bin").sha256 == kept.sha256
    assert store.download(kept.key, tmp_path / "copy").read_bytes() == file.read_bytes()
    assert store.fetch(kept.key, tmp_path / "again") == tmp_path / "again"
    first = store.put_if_absent("receipt", file, owner="me")
    assert store.put_if_absent("receipt", file, owner="me").etag == first.etag
    with pytest.raises(ObjectConflict, match="another owner"):
        store.put_if_absent("receipt", other, owner="you")


def test_what_is_fetched_is_there_as_a_file_and_in_memory(s3_url: str, tmp_path: Path) -> None:
    store = open_store(s3_url)
    for content in (b"", b"x" * 3_000_000):
        store.put("a", content)
        fetched = store.fetch("a", tmp_path / "deep" / "a")
        assert not isinstance(fetched, Path)
        assert bytes(fetched) == content == (tmp_path / "deep" / "a").read_bytes()
        again = store.put_content("blobs", fetched)
        assert store.get(again.key) == content


def _who(headers: list[dict[str, str]]) -> set[str]:
    return {found["authorization"].partition("Credential=")[2].partition("/")[0] for found in headers}


def test_credentials_of_a_session_are_used(s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "for an hour")
    with proxy_before(s3_endpoint, _nothing) as proxy:
        open_store(_at(s3_url, proxy.url)).put("k", b"1")
        assert {found["x-amz-security-token"] for found in proxy.headers} == {"for an hour"}
        assert _who(proxy.headers) == {"test"}


def test_a_profile_names_credentials_region_and_address(
    s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with proxy_before(s3_endpoint, _nothing) as proxy:
        (tmp_path / "credentials").write_text("[closed-site]\naws_access_key_id = of-the-profile\naws_secret_access_key = y\n")
        (tmp_path / "config").write_text(f"[profile closed-site]\nregion = eu-north-1\nendpoint_url = {proxy.url}\n")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_PROFILE", "closed-site")
        store = open_store(s3_url.partition("?")[0])
        store.put("k", b"1")
        assert [found.key for found in store.list()] == ["k"]
        assert _who(proxy.headers) == {"of-the-profile"}
        assert all("/eu-north-1/s3/" in found["authorization"] for found in proxy.headers)


def test_without_credentials_the_store_says_so(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreUnavailable, match="credentials"):
        open_store(s3_url).get("k")


def _authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for localhost that nobody knows, and a server that shows it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "closed site")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    shown, secret = folder / "certificate.pem", folder / "key.pem"
    shown.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, secret)
    return shown, context


def _everything(store: Store) -> None:
    store.put("k", b"1")
    assert store.get("k") == b"1"
    assert [found.key for found in store.list()] == ["k"]
    store.delete("k")


def test_a_closed_sites_own_authority_is_trusted_when_it_is_named_and_not_before(
    s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    certificate, context = _authority(tmp_path)
    with proxy_before(s3_endpoint, _nothing, tls=context) as proxy:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            open_store(_at(s3_url, proxy.url)).get("k")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        _everything(open_store(_at(s3_url, proxy.url)))
        assert urlsplit(proxy.url).scheme == "https"
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
        with pytest.raises(StoreUnavailable, match=r"missing\.pem"):
            open_store(_at(s3_url, proxy.url)).get("k")


def test_what_a_server_refuses_is_told_in_its_words(s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "ATTEMPTS", 2)
    with proxy_before(s3_endpoint, lambda chance, method, path: "error") as proxy:
        store = open_store(_at(s3_url, proxy.url))
        for action in (lambda: store.put("k", b"1"), lambda: store.get("k"), lambda: list(store.list()), lambda: store.head("k")):
            with pytest.raises(StoreUnavailable, match=r"500|InternalError|internal error") as told:
                action()
            assert "\n" not in str(told.value)
            assert len(str(told.value)) < 300
