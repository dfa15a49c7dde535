"""Choose scans for labelling and say why; `backfill` does the same over history for one category."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from scanloop.canonical import digest_of
from scanloop.curation.choose import Candidate, Choice, Policy, choose
from scanloop.curation.features import VERSION
from scanloop.curation.pool import KIND, candidates_of, described, history_of
from scanloop.errors import NothingToDo, WrongArguments
from scanloop.execution import JobRun
from scanloop.steps import step

log = logging.getLogger(__name__)
BACKFILL = "backfill"


def create_selection(run: JobRun) -> dict[str, Any]:
    """Choose among the validated scans that were never chosen, under the product line's budget.

    Raises:
        NothingToDo: there is no candidate, or all of them are near copies of what was chosen before.
    """
    definition = run.definition
    with run.catalog.read() as connection:
        candidates = candidates_of(connection, definition)
        history = history_of(connection, definition.product_line, taxonomy=definition.taxonomy) if candidates else []
    if not candidates:
        raise NothingToDo(f"Every validated scan of {definition.product_line} was chosen before.")
    rules = definition.selection
    policy = Policy(rules.budget_scans, rules.exploration_share, rules.near_duplicate_bits, rules.seed)
    parameters = {"kind": KIND, "looked_for": list(definition.categories), "schema_version": definition.labelling.schema_version}
    return _publish(run, described(candidates, run.store), described(history, run.store), policy, parameters)


def plan_backfill(run: JobRun, category: str, budget: int | None, since: datetime | None, until: datetime | None) -> dict[str, Any]:
    """Choose scans from history in which nobody looked for `category` yet: labelled ones, which are asked about that category only, and others.

    Raises:
        WrongArguments: the product line does not list the category, or the interval is empty.
        NothingToDo: there is no such scan.
    """
    definition = run.definition
    if category not in definition.categories:
        known = ", ".join(definition.categories)
        raise WrongArguments(
            f"{definition.product_line} does not look for {category!r}, only for {known}. "
            f"Add it to categories in product_lines/{definition.product_line}.yaml and run: scanloop definitions apply"
        )
    if since is not None and until is not None and since >= until:
        raise WrongArguments(f"--since ({since.isoformat()}) must be before --until ({until.isoformat()}).")
    with run.catalog.read() as connection:
        candidates = candidates_of(connection, definition, category=category, since=since, until=until)
        history = history_of(connection, definition.product_line, taxonomy=definition.taxonomy, category=category) if candidates else []
    if not candidates:
        raise NothingToDo(
            f"{category!r} was looked for, or is about to be, in every validated scan of {definition.product_line} in that time."
        )
    rules = definition.selection
    policy = Policy(budget or rules.budget_scans, rules.exploration_share, rules.near_duplicate_bits, rules.seed)
    parameters = {
        "kind": BACKFILL,
        "looked_for": [category],
        "schema_version": backfill_schema(definition.labelling.schema_version, category, definition.taxonomy),
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
    }
    return _publish(run, described(candidates, run.store), described(history, run.store), policy, parameters)


def backfill_schema(schema_version: str, category: str, taxonomy: str) -> str:
    """The labelling schema of a backfill: another question about the same scan, so that it gets a task of its own. The same id may mean something
    else in another version of the taxonomy.
    """
    return f"{schema_version}+{category}@{taxonomy}"


def selection_id_of(
    product_line: str, candidates: Sequence[Candidate], history: Sequence[Candidate], policy: Policy, parameters: dict[str, Any]
) -> str:
    """The id of the selection with these inputs: the same for the same inputs, so that a choice can be replayed and compared."""
    facts = {
        name: sorted([*vars(one.fingerprint).values(), one.scanner_id, one.acquired_at, list(one.description)] for one in group)
        for name, group in (("candidates", candidates), ("history", history))
    }
    return digest_of(["selection", VERSION, product_line, vars(policy), parameters, facts])[:32]


def _publish(
    run: JobRun, candidates: Sequence[Candidate], history: Sequence[Candidate], policy: Policy, parameters: dict[str, Any]
) -> dict[str, Any]:
    definition = run.definition
    choices = choose(candidates, history, policy)
    chosen = [choice for choice in choices if choice.is_chosen]
    by_stage = Counter(choice.stage for choice in choices)
    if not chosen:
        said = ", ".join(f"{count} {stage.replace('_', ' ')}" for stage, count in sorted(by_stage.items()))
        raise NothingToDo(f"None of {len(choices)} candidates of {definition.product_line} is worth labelling: {said}.")
    parameters = parameters | {"taxonomy": definition.taxonomy, "definition_version": definition.version}
    selection_id = selection_id_of(definition.product_line, candidates, history, policy, parameters)
    by_id = {candidate.scan_id: candidate for candidate in candidates}
    scanners = Counter(by_id[choice.scan_id].scanner_id for choice in chosen)
    counts = {
        "candidates": len(choices),
        "chosen": len(chosen),
        "bags": len({by_id[choice.scan_id].bag_id for choice in chosen}),
        "near_duplicates": by_stage["near_duplicate"],
        "by_stage": dict(sorted(by_stage.items())),
        "chosen_by_scanner": dict(sorted(scanners.items())),
        "history": len(history),
    }
    row = {
        "selection_id": selection_id,
        "product_line": definition.product_line,
        "seed": policy.seed,
        "budget": policy.budget_scans,
        "model_id": None,
        "parameters": parameters
        | {"exploration_share": policy.exploration_share, "near_duplicate_bits": policy.near_duplicate_bits, "features": VERSION},
        "counts": counts,
    }
    run.publication.insert("selections", [row], action="selection.created", subject="selection_id")
    items = [_item(selection_id, choice, by_id[choice.scan_id]) for choice in choices]
    run.publication.insert("selection_items", items, action="selection_item.decided", subject="selection_id/scan_id")
    step("selection.after_choose")
    log.info("Chose %d of %d scans.", len(chosen), len(choices))
    return {"selection_id": selection_id, "chosen": len(chosen), "candidates": len(choices), "near_duplicates": by_stage["near_duplicate"]}


def _item(selection_id: str, choice: Choice, candidate: Candidate) -> dict[str, Any]:
    return {
        "selection_id": selection_id,
        "scan_id": choice.scan_id,
        "rank": choice.rank,
        "is_chosen": choice.is_chosen,
        "score": choice.score,
        "scores": {"distance": choice.score, "stage": choice.stage, "features": VERSION, "description": list(candidate.description)},
        "reason": choice.reason,
    }
