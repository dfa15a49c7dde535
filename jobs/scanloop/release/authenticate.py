"""What the signer makes sure of before it signs. It believes nothing a request says: every fact is read again from where it was recorded.

    the release        is a row of the catalog that says the same as the request, and its number follows the last one
    the export         has its receipt, which the catalog knows by hash, and which vouches for the bundle and for a parity that held
    the champion       is the model, by a decision to promote whose evidence hashes to what was recorded
    the promotion      has its receipt, and the approval by a named approver where the decision asks for one
    every row          is what a run with a receipt published, unchanged
    the bundle         is whole, is for this product line, channel and number, and carries that very evidence

The bundle's files are hashed here, never opened: the process that holds keys parses JSON of known shape and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from scanloop.catalog import Catalog
from scanloop.catalog.tables import champion_history, champions, decisions, product_lines, releases, runs
from scanloop.edge.manifest import Manifest, parse_manifest
from scanloop.errors import DataWrong
from scanloop.execution.receipts import Receipt, load_with_hash, receipt_key
from scanloop.promotion.receipts import NotVouched, vouched
from scanloop.release.bundle import bundle_file_key
from scanloop.release.requests import SigningRequest
from scanloop.store import Store

EXPORT_JOB = "release.export"
PROMOTION_JOB = "promotion.promote"


class RequestRefused(DataWrong):
    """A request that must not be signed, ever; the reason goes into the answer."""


@dataclass(frozen=True)
class Facts:
    """What the catalog says about one release, read in one transaction."""

    release: Mapping[str, Any]
    """Its row."""
    versions: tuple[int, ...]
    """Numbers of all releases of the product line."""
    champion: Mapping[str, Any]
    """The champion's row."""
    history: Mapping[str, Any]
    """The row of the champion's history that made it champion."""
    decision: Mapping[str, Any]
    """The decision behind it."""
    definition: Mapping[str, Any]
    """The product line's active definition."""


def authenticate(store: Store, catalog: Catalog, request: SigningRequest, last_version: int) -> Manifest:
    """Return the manifest to sign. `last_version`: the highest number ever signed for the product line.

    Raises:
        RequestRefused: something does not hold; the message names it.
        WorldUnavailable: store or catalog cannot be read now; nothing is decided.
    """
    facts = read_facts(catalog, request)
    check_facts(request, facts, last_version)
    for table, key in (("releases", request.release_id), ("decisions", facts.decision["decision_id"]), ("models", request.model_id)):
        check_published(store, catalog, table, key)
    export = vouched_receipt(store, catalog, facts.release["run_id"], EXPORT_JOB, request.product_line)
    if export.result.get("release_id") != request.release_id:
        raise RequestRefused(f"The receipt of the export run {export.run_id} is about another release.")
    check_parity(store, export, request)
    promotion = vouched_receipt(store, catalog, facts.history["run_id"], PROMOTION_JOB, request.product_line)
    check_promotion(facts, promotion)
    check_evidence(facts.decision, promotion, store.get(facts.decision["evidence_key"]))
    return check_bundle(store, export, request, facts.decision["evidence_sha256"])


def read_facts(catalog: Catalog, request: SigningRequest) -> Facts:
    """Read what the catalog knows about the release. Raises RequestRefused if a row that must exist does not."""
    line = request.product_line

    with catalog.read() as connection:

        def one(statement: sa.Select[Any], what: str) -> Mapping[str, Any]:
            row = connection.execute(statement).mappings().one_or_none()
            if row is None:
                raise RequestRefused(f"The catalog knows no {what}.")
            return dict(row)

        release = one(sa.select(releases).where(releases.c.release_id == request.release_id), f"release {request.release_id}")
        versions = connection.execute(sa.select(releases.c.version).where(releases.c.product_line == line)).scalars()
        champion = one(sa.select(champions).where(champions.c.product_line == line), f"champion of {line}")
        this_step = (champion_history.c.product_line == line, champion_history.c.sequence == champion["sequence"])
        return Facts(
            release,
            tuple(sorted(versions)),
            champion,
            one(sa.select(champion_history).where(*this_step), f"promotion behind the champion of {line}"),
            one(sa.select(decisions).where(decisions.c.decision_id == champion["decision_id"]), f"decision behind the champion of {line}"),
            one(
                sa.select(product_lines.c.definition).where(product_lines.c.product_line == line, product_lines.c.is_active),
                f"active definition of {line}",
            )["definition"],
        )


def check_facts(request: SigningRequest, facts: Facts, last_version: int) -> None:
    """The rules that need the catalog's rows only. Raises RequestRefused."""
    for name in ("product_line", "channel", "version", "model_id", "bundle_key", "bundle_sha256"):
        if facts.release[name] != getattr(request, name):
            raise RequestRefused(f"The request says {name} {getattr(request, name)!r}, the catalog {facts.release[name]!r}.")
    if facts.release["run_id"] != request.export_run_id:
        raise RequestRefused("The request names another export run than the catalog.")
    if facts.release["state"] == "refused":
        raise RequestRefused(f"Release {request.version} of {request.product_line} was refused already: {facts.release['reason']}")
    if request.version <= last_version:
        raise RequestRefused(f"Release {request.version} does not follow release {last_version}, the last one signed.")
    up_to_this = [version for version in facts.versions if version <= request.version]
    if up_to_this != list(range(1, request.version + 1)):
        raise RequestRefused(f"Release {request.version} leaves out a number: the catalog has {up_to_this}.")
    if facts.champion["model_id"] != request.model_id:
        raise RequestRefused(
            f"Model {request.model_id[:12]} is not the champion of {request.product_line}; {facts.champion['model_id'][:12]} is."
        )
    for name in ("model_id", "decision_id"):
        if facts.history[name] != facts.champion[name]:
            raise RequestRefused(f"The champion's {name} is not the one its history records.")
    decision = facts.decision
    if decision["product_line"] != request.product_line or decision["candidate_id"] != request.model_id:
        raise RequestRefused(f"Decision {decision['decision_id'][:12]} is about another model.")
    if decision["verdict"] != "promote":
        raise RequestRefused(f"Decision {decision['decision_id'][:12]} says {decision['verdict']}, not promote.")
    channel = facts.definition["release"]["channel"]
    if request.channel != channel:
        raise RequestRefused(f"{request.product_line} is released on {channel}, not on {request.channel}.")


def vouched_receipt(store: Store, catalog: Catalog, run_id: str, job: str, product_line: str) -> Receipt:
    """The receipt of a job, which the catalog must know by its hash.

    Raises:
        RequestRefused: there is none, it is not the one that was recorded, or it belongs to another product line.
    """
    found = load_with_hash(store, receipt_key(run_id, job))
    if found is None:
        raise RequestRefused(f"There is no receipt of {job} in run {run_id}.")
    receipt, digest = found
    with catalog.read() as connection:
        known = connection.execute(
            sa.select(runs.c.receipt_sha256).where(runs.c.run_id == run_id, runs.c.job == job, runs.c.part == "")
        ).scalar_one_or_none()
    if known != digest or (receipt.run_id, receipt.job) != (run_id, job):
        raise RequestRefused(f"The receipt of {job} in run {run_id} is not the one that the catalog recorded: it was forged or changed.")
    if receipt.product_line != product_line:
        raise RequestRefused(f"The receipt of {job} in run {run_id} is of {receipt.product_line}, not of {product_line}.")
    return receipt


def check_parity(store: Store, export: Receipt, request: SigningRequest) -> None:
    """The export must have recorded a parity that held, for this model and this network. Raises RequestRefused."""
    key = next((output["key"] for output in export.outputs if output["key"].startswith("parity/")), None)
    report = _recorded_json(store, export, key) if key else {}
    if report.get("holds") is not True or report.get("model_id") != request.model_id:
        raise RequestRefused("The export has no parity report that holds for this model.")
    network = report.get("onnx_sha256")
    if not any(output["sha256"] == network for output in export.outputs):
        raise RequestRefused("The parity report is about another network than the one exported.")


def check_published(store: Store, catalog: Catalog, table: str, key: str) -> None:
    """The row must be what a completed run published, unchanged. Raises RequestRefused."""
    try:
        with catalog.read() as connection:
            vouched(store, connection, table, key)
    except NotVouched as error:
        raise RequestRefused(error.message.removesuffix(" Nothing was promoted.")) from None


def check_promotion(facts: Facts, promotion: Receipt) -> None:
    """The promotion's receipt must tell of this very switch. Raises RequestRefused."""
    expected = {
        "champion": facts.champion["model_id"],
        "sequence": facts.champion["sequence"],
        "decision_id": facts.champion["decision_id"],
    }
    found = {name: promotion.result.get(name) for name in expected}
    if found != expected:
        raise RequestRefused(f"The promotion in run {promotion.run_id} made {found}, the catalog says {expected}.")


def check_evidence(decision: Mapping[str, Any], promotion: Receipt, evidence: bytes) -> None:
    """The evidence must be what was decided on, and a named approver must have agreed where one is asked for. Raises RequestRefused."""
    name = decision["decision_id"][:12]
    if hashlib.sha256(evidence).hexdigest() != decision["evidence_sha256"]:
        raise RequestRefused(f"The evidence of decision {name} is not what was recorded.")
    content = json.loads(evidence)
    if (content.get("verdict"), content.get("candidate_id")) != ("promote", decision["candidate_id"]):
        raise RequestRefused(f"The evidence of decision {name} does not say to promote this model.")
    if not decision["needs_approval"]:
        return
    approver = promotion.result.get("approver")
    named = content.get("policy", {}).get("approvers", [])
    if not approver or approver not in named or decision["approver"] != approver:
        raise RequestRefused(f"Decision {name} needs an approval by one of {', '.join(named) or 'nobody'}; found {approver!r}.")


def check_bundle(store: Store, export: Receipt, request: SigningRequest, evidence_sha256: str) -> Manifest:
    """Every byte of the bundle must be what the export's receipt recorded. Raises RequestRefused."""
    outputs = {output["key"]: output["sha256"] for output in export.outputs}
    data = store.get(request.bundle_key)
    if hashlib.sha256(data).hexdigest() != request.bundle_sha256 or outputs.get(request.bundle_key) != request.bundle_sha256:
        raise RequestRefused("The bundle's manifest is not the one that was exported.")
    manifest = parse_manifest(data)
    if manifest.to_bytes() != data:
        raise RequestRefused("The bundle's manifest is not in its one form.")
    for name in ("product_line", "channel", "version", "model_id"):
        if getattr(manifest, name) != getattr(request, name):
            raise RequestRefused(f"The bundle is for {name} {getattr(manifest, name)!r}, the request for {getattr(request, name)!r}.")
    for file in manifest.files:
        key = bundle_file_key(file)
        if outputs.get(key) != file.sha256 or not store.verify(key, file.sha256):
            raise RequestRefused(f"{file.name} of the bundle is not what was exported.")
    if manifest.file("evidence.json").sha256 != evidence_sha256:
        raise RequestRefused("The bundle carries other evidence than the decision.")
    if not any(output["key"].startswith("parity/") for output in export.outputs):
        raise RequestRefused("The export recorded no parity.")
    return manifest


def _recorded_json(store: Store, receipt: Receipt, key: str) -> dict[str, Any]:
    """An object that `receipt` recorded, as JSON. Raises RequestRefused if it changed since."""
    expected = next(output["sha256"] for output in receipt.outputs if output["key"] == key)
    data = store.get(key)
    if hashlib.sha256(data).hexdigest() != expected:
        raise RequestRefused(f"{store.uri(key)} is not what run {receipt.run_id} wrote.")
    content: dict[str, Any] = json.loads(data)
    return content
