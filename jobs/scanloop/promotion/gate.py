"""The gate: rules over a comparison, each with an outcome and a reason that a person can read, and the verdict they add up to.

A rule passes, fails, or is undecided: the data allow both. One failed rule rejects; otherwise one undecided rule means that there is
insufficient evidence; only when every rule passes may the candidate be promoted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal

from scanloop.evaluation.bounds import SEARCH_LIMIT_BAGS, bags_to_settle
from scanloop.promotion.bootstrap import Interval
from scanloop.promotion.comparison import Comparison, Paired
from scanloop.promotion.policy import GatePolicy, rejecting_confidence

Outcome = Literal["passed", "failed", "undecided"]
Verdict = Literal["promote", "reject", "insufficient_evidence"]


@dataclass(frozen=True)
class Finding:
    """What one rule found."""

    rule: str
    """Name of the rule."""
    outcome: Outcome
    """Whether it is met."""
    reason: str
    """One sentence with the numbers."""
    more_bags: int | None = None
    """Further test bags that would settle an undecided rule, if the rates stay; None: it is settled, or too many to say."""

    def as_json(self) -> dict[str, object]:
        """The fields, for the evidence."""
        return {"rule": self.rule, "outcome": self.outcome, "reason": self.reason, "more_bags": self.more_bags}


@dataclass(frozen=True)
class Judgement:
    """What the gate says."""

    verdict: Verdict
    """Whether the candidate may become champion."""
    findings: tuple[Finding, ...]
    """Every rule, in the order in which they are asked."""

    @property
    def reasons(self) -> list[str]:
        """The sentences, what decided first."""
        rank = {"failed": 0, "undecided": 1, "passed": 2}
        return [finding.reason for finding in sorted(self.findings, key=lambda finding: rank[finding.outcome])]


def judge(comparison: Comparison, policy: GatePolicy) -> Judgement:
    """Ask every rule that applies and add them up."""
    findings = tuple(_findings(comparison, policy))
    outcomes = {finding.outcome for finding in findings}
    verdict: Verdict = "reject" if "failed" in outcomes else "insufficient_evidence" if "undecided" in outcomes else "promote"
    return Judgement(verdict, findings)


def _findings(comparison: Comparison, policy: GatePolicy) -> Iterator[Finding]:
    yield _enough("threat_bags", "with a threat", comparison.threat_bags, policy.min_threat_bags)
    yield _enough("clean_bags", "without any threat", comparison.clean_bags, policy.min_clean_bags)
    if not comparison.candidate.val_clean_bags:
        yield Finding("val_clean_bags", "undecided", "The val split has no clean bag, so no threshold could be chosen.", 1)
    yield _keeps_pfa(comparison, policy)
    if comparison.paired is None:
        yield _reaches_ap50(comparison, policy)
        return
    yield _keeps_pd(comparison, comparison.paired, policy)
    yield _keeps_slices(comparison.paired, policy)
    yield _gains_ap50(comparison, comparison.paired, policy)


def _enough(rule: str, which: str, found: int, needed: int) -> Finding:
    if found >= needed:
        return Finding(rule, "passed", f"The test split has {found} bags {which}; at least {needed} are asked for.")
    return Finding(rule, "undecided", f"The test split has only {found} bags {which}; at least {needed} are asked for.", needed - found)


def _keeps_pfa(comparison: Comparison, policy: GatePolicy) -> Finding:
    """Fails when Pfa is above the target beyond doubt.

    Undecided where the luck of the val split, on which the thresholds were chosen, explains it.
    """
    candidate, target = comparison.candidate, _share(policy.target_pfa)
    pfa = candidate.pfa
    if pfa.rate is None:
        return Finding("pfa", "undecided", "Pfa: there is no clean bag to measure it on.", policy.min_clean_bags)
    measured = (
        f"Pfa: {pfa.count} of {pfa.total} clean bags alarm ({_share(pfa.rate)}, at least {_share(pfa.lower)}, at most {_share(pfa.upper)})"
    )
    if pfa.lower <= policy.target_pfa:
        return Finding("pfa", "passed", f"{measured}, which agrees with the target of {target}.")
    if candidate.pfa_chance < 1 - rejecting_confidence(comparison.confidence):
        return Finding("pfa", "failed", f"{measured}, which is above the target of {target} beyond doubt.")
    return Finding("pfa", "undecided", f"{measured}: above the target of {target}, but the val split has too few clean bags to aim better.")


def _reaches_ap50(comparison: Comparison, policy: GatePolicy) -> Finding:
    ap50 = comparison.candidate.ap50
    if ap50 is None:
        return Finding("ap50", "undecided", "AP50: there is no threat in the test split to measure it on.", policy.min_threat_bags)
    reached = ap50 >= policy.min_ap50
    word = "reaches" if reached else "does not reach"
    reason = f"AP50: the first champion {word} the {policy.min_ap50:.3f} asked for, with {ap50:.3f}."
    return Finding("ap50", "passed" if reached else "failed", reason)


def _keeps_pd(comparison: Comparison, paired: Paired, policy: GatePolicy) -> Finding:
    champion, candidate, difference = comparison.champion, comparison.candidate, paired.pd.difference
    if champion is None or difference is None or candidate.pd.rate is None or champion.pd.rate is None:
        return Finding("pd", "undecided", "Pd: there is no bag with a threat to measure it on.", policy.min_threat_bags)
    lower, upper = paired.pd_bounds
    measured = (
        f"Pd: candidate {_share(candidate.pd.rate)}, champion {_share(champion.pd.rate)} on the same {paired.pd.total} bags with threats "
        f"({paired.pd.gained} gained, {paired.pd.lost} lost); the difference lies between {_signed(lower)} and {_signed(upper)}"
    )
    margin = f"a drop of {_share(policy.max_pd_drop)} is the most allowed"
    if lower >= -policy.max_pd_drop:
        return Finding("pd", "passed", f"{measured}, and {margin}: not inferior.")
    if upper < -policy.max_pd_drop:
        return Finding("pd", "failed", f"{measured}, and {margin}: inferior.")
    needed = bags_to_settle(paired.pd, policy.max_pd_drop)
    more = None if needed is None else max(1, needed - paired.pd.total)
    return Finding("pd", "undecided", f"{measured}, and {margin}: too close to tell. {_forecast(more, 'bags with threats')}", more)


def _keeps_slices(paired: Paired, policy: GatePolicy) -> Finding:
    """Fails when a category or a scanner model is worse beyond doubt; a slice alone is too small to have to prove that it is not."""
    worse = {name: found for name, found in paired.slices.items() if found.upper < -policy.max_pd_drop}
    if worse:
        named = "; ".join(f"{name} {_signed(found.difference or 0.0)} on {found.total} bags" for name, found in sorted(worse.items()))
        return Finding("slices", "failed", f"Slices: Pd drops by more than {_share(policy.max_pd_drop)} beyond doubt: {named}.")
    return Finding("slices", "passed", f"Slices: on none of {len(paired.slices)} categories and scanner models is Pd worse beyond doubt.")


def _gains_ap50(comparison: Comparison, paired: Paired, policy: GatePolicy) -> Finding:
    gain, champion = paired.ap50, comparison.champion
    if champion is None or gain.value is None or gain.lower is None or gain.upper is None or gain.ceiling is None:
        return Finding("ap50_gain", "undecided", "AP50: there is no threat in the test split to measure it on.", policy.min_threat_bags)
    measured = (
        f"AP50: candidate {comparison.candidate.ap50:.3f}, champion {champion.ap50:.3f}; the gain of {gain.value:+.3f} lies between "
        f"{gain.lower:+.3f} and {gain.upper:+.3f}, and {policy.min_ap50_gain:+.3f} is asked for"
    )
    if gain.value >= policy.min_ap50_gain:
        return Finding("ap50_gain", "passed", f"{measured}: enough.")
    if gain.ceiling < policy.min_ap50_gain:
        return Finding("ap50_gain", "failed", f"{measured}: too little.")
    more = _more_for(gain, policy.min_ap50_gain, comparison.bags)
    return Finding("ap50_gain", "undecided", f"{measured}: too close to tell. {_forecast(more, 'bags')}", more)


def _more_for(gain: Interval, asked: float, bags: int) -> int | None:
    """Further bags until the interval, which narrows as 1 / sqrt(bags), leaves the point that is asked for."""
    if gain.value is None or gain.ceiling is None or gain.value == asked:
        return None
    needed = ceil(bags * ((gain.ceiling - gain.value) / (asked - gain.value)) ** 2)
    return max(1, needed - bags) if needed <= SEARCH_LIMIT_BAGS else None


def _forecast(more: int | None, what: str) -> str:
    if more is None:
        return f"No number of {what} up to {SEARCH_LIMIT_BAGS} would settle it at these rates."
    return f"About {more} more {what} would settle it, if the rates stay."


def _share(value: float) -> str:
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}\N{NO-BREAK SPACE}%"
