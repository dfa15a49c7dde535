"""What the gate lets through: simulated candidates of known quality, and each rule on its own."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import replace
from math import ceil, floor

import pytest
from simulated_detections import Skill, detect, make_split

from scanloop.evaluation.bounds import clopper_pearson, paired_difference
from scanloop.evaluation.outcomes import bag_scores
from scanloop.evaluation.reference import ReferenceSet
from scanloop.evaluation.thresholds import OperatingPoint, chance_of_alarms, choose_operating_point
from scanloop.product_lines import Gate
from scanloop.promotion.bootstrap import Interval
from scanloop.promotion.comparison import Comparison, Measured, Paired, Side, compare
from scanloop.promotion.gate import Finding, judge
from scanloop.promotion.policy import GatePolicy, decision_id

CHAMPION = Skill(hit=0.0)
POLICY = GatePolicy.of(Gate(target_pfa=0.1, max_pd_drop=0.1, min_ap50=0.3, min_ap50_gain=0.0))


def simulated_verdicts(skill: Skill, trials: int = 60) -> Counter[str]:
    """Verdicts on candidates of one skill, each with its own val and test split and its own luck."""

    def side(name: str, reference: ReferenceSet, val: ReferenceSet, skill: Skill, seed: int) -> Side:
        point = choose_operating_point(bag_scores(val, detect(val, skill, seed)), POLICY.target_pfa)
        return Side(name, detect(reference, skill, seed + 1), point)

    verdicts: Counter[str] = Counter()
    for trial in range(trials):
        reference, val = make_split(140, 1000 + trial), make_split(100, 5000 + trial)
        sides = (side("new", reference, val, skill, 10 * trial), side("old", reference, val, CHAMPION, 10 * trial + 5))
        comparison = compare(reference, *sides, confidence=POLICY.confidence, seed=trial, replicates=200)
        verdicts[judge(comparison, POLICY).verdict] += 1
    return verdicts


def test_a_regression_is_never_promoted() -> None:
    verdicts = simulated_verdicts(Skill(hit=-1.8))
    assert verdicts["promote"] == 0
    assert verdicts["reject"] >= 54


def test_a_candidate_that_is_no_different_is_seldom_rejected() -> None:
    verdicts = simulated_verdicts(CHAMPION)
    assert verdicts["reject"] <= 8
    assert verdicts["promote"] <= 40


def test_an_improvement_is_promoted() -> None:
    verdicts = simulated_verdicts(Skill(hit=1.8, jitter=0.04))
    assert verdicts["promote"] >= 48
    assert verdicts["reject"] <= 3


def measured(name: str, *, ap50: float | None = 0.8, found: int = 90, threats: int = 100, alarms: int = 8, clean: int = 100) -> Measured:
    rates = clopper_pearson(found, threats, 0.95), clopper_pearson(alarms, clean, 0.95)
    point = OperatingPoint(("knife",), (0.5,), 0.1, 60, 5)
    return Measured(name, ap50, ap50, *rates, pfa_chance=chance_of_alarms(point, alarms, clean), val_clean_bags=60)


def first(**numbers: float | None) -> Comparison:
    candidate = measured("new", **numbers)  # type: ignore[arg-type]
    return Comparison(candidate.pd.total + candidate.pfa.total, candidate.pd.total, candidate.pfa.total, 0.95, candidate)


def later(
    *, gained: int = 3, lost: int = 1, total: int = 100, gain: tuple[float, float, float] = (0.02, -0.01, 0.05), alarms: int = 8
) -> Comparison:
    candidate, champion = measured("new", alarms=alarms), measured("old")
    pd = paired_difference(total, gained, lost, 0.95)
    value = pd.difference or 0.0
    paired = Paired(
        pd=pd,
        pfa=paired_difference(100, 0, 0, 0.95),
        pd_resampled=Interval(value, pd.lower + 0.01, pd.upper - 0.01, pd.upper),
        pfa_resampled=Interval(0.0, 0.0, 0.0, 0.0),
        ap50=Interval(*gain, gain[2] + 0.005),
        ap=Interval(*gain, gain[2] + 0.005),
        slices={"category knife": paired_difference(40, 1, 1, 0.98), "scanner Acme X1": paired_difference(30, 0, 0, 0.98)},
        lost_bags=(),
        gained_bags=(),
        new_false_alarms=(),
        cured_false_alarms=(),
    )
    return Comparison(total + 100, total, 100, 0.95, candidate, champion, paired)


def finding(comparison: Comparison, rule: str, policy: GatePolicy = POLICY) -> Finding:
    return next(found for found in judge(comparison, policy).findings if found.rule == rule)


def test_a_first_champion_needs_only_its_own_numbers() -> None:
    judgement = judge(first(ap50=0.31), POLICY)
    assert judgement.verdict == "promote"
    assert [found.rule for found in judgement.findings] == ["threat_bags", "clean_bags", "pfa", "ap50"]


def test_thresholds_that_nothing_could_be_chosen_by_are_insufficient_evidence() -> None:
    sure = first(ap50=0.9)
    judgement = judge(replace(sure, candidate=replace(sure.candidate, val_clean_bags=0)), POLICY)
    assert judgement.verdict == "insufficient_evidence"
    assert judgement.reasons[0].startswith("The val split has no clean bag")


def test_a_first_champion_below_the_mark_is_rejected() -> None:
    judgement = judge(first(ap50=0.29), POLICY)
    assert judgement.verdict == "reject"
    assert judgement.reasons[0] == "AP50: the first champion does not reach the 0.300 asked for, with 0.290."


@pytest.mark.parametrize(
    ("numbers", "more"), [({"threats": 3, "found": 3}, 2), ({"clean": 1, "alarms": 0}, 4), ({"ap50": None, "threats": 0, "found": 0}, 5)]
)
def test_too_few_bags_are_insufficient_evidence(numbers: dict[str, int], more: int) -> None:
    judgement = judge(first(**numbers), POLICY)
    assert judgement.verdict == "insufficient_evidence"
    assert more in {found.more_bags for found in judgement.findings}


@pytest.mark.parametrize(
    ("gained", "lost", "outcome"), [(3, 1, "passed"), (0, 0, "passed"), (2, 9, "undecided"), (0, 30, "failed")], ids=str
)
def test_pd_must_not_be_inferior(gained: int, lost: int, outcome: str) -> None:
    assert finding(later(gained=gained, lost=lost), "pd").outcome == outcome


def test_an_undecided_pd_says_how_many_bags_would_settle_it() -> None:
    found = finding(later(gained=2, lost=9), "pd")
    assert found.more_bags is not None
    assert f"About {found.more_bags} more bags with threats would settle it" in found.reason
    factor = (100 + found.more_bags) / 100
    again = finding(later(gained=ceil(2 * factor), lost=floor(9 * factor), total=100 + found.more_bags), "pd")
    assert again.outcome == "passed"


def test_the_wider_bound_decides() -> None:
    close = later(gained=0, lost=3)
    assert close.paired is not None
    assert finding(close, "pd").outcome == "passed"
    wide = dataclasses.replace(close, paired=dataclasses.replace(close.paired, pd_resampled=Interval(-0.03, -0.11, 0.05, 0.05)))
    assert finding(wide, "pd").outcome == "undecided"


@pytest.mark.parametrize(("alarms", "outcome"), [(0, "passed"), (14, "passed"), (17, "undecided"), (30, "failed")])
def test_pfa_must_not_be_above_the_target_beyond_doubt(alarms: int, outcome: str) -> None:
    assert finding(later(alarms=alarms), "pfa").outcome == outcome


@pytest.mark.parametrize(
    ("gain", "asked", "outcome"),
    [
        ((0.02, -0.01, 0.05), 0.0, "passed"),
        ((0.02, 0.01, 0.03), 0.02, "passed"),
        ((-0.01, -0.04, 0.02), 0.0, "undecided"),
        ((-0.05, -0.08, -0.02), 0.0, "failed"),
        ((0.02, 0.01, 0.03), 0.05, "failed"),
    ],
)
def test_ap50_must_gain_what_is_asked(gain: tuple[float, float, float], asked: float, outcome: str) -> None:
    assert finding(later(gain=gain), "ap50_gain", dataclasses.replace(POLICY, min_ap50_gain=asked)).outcome == outcome


def test_a_slice_that_is_worse_beyond_doubt_rejects_whatever_the_whole_says() -> None:
    comparison = later()
    assert comparison.paired is not None
    slices = {**comparison.paired.slices, "scanner Borealis 7": paired_difference(20, 0, 9, 0.98)}
    worse = dataclasses.replace(comparison, paired=dataclasses.replace(comparison.paired, slices=slices))
    assert judge(comparison, POLICY).verdict == "promote"
    judgement = judge(worse, POLICY)
    assert judgement.verdict == "reject"
    assert "scanner Borealis 7 -45.0\N{NO-BREAK SPACE}% on 20 bags" in judgement.reasons[0]


def test_what_decided_comes_first() -> None:
    judgement = judge(later(gained=2, lost=9, gain=(-0.05, -0.08, -0.02)), POLICY)
    assert judgement.verdict == "reject"
    assert judgement.reasons[0].startswith("AP50")
    assert judgement.reasons[1].startswith("Pd")


@pytest.mark.parametrize("field", list(GatePolicy.__dataclass_fields__))
def test_every_part_of_the_policy_makes_another_decision(field: str) -> None:
    value = getattr(POLICY, field)
    changed = {"approval": "always", "approvers": ("ada",)}.get(field, value + 1 if isinstance(value, int) else None) or value * 0.5 + 0.1
    other = dataclasses.replace(POLICY, **{field: changed})
    assert decision_id("a", "b", "s", other) != decision_id("a", "b", "s", POLICY)
    assert decision_id("a", "b", "s", POLICY) == decision_id("a", "b", "s", dataclasses.replace(POLICY))
    assert len({decision_id(*ids, POLICY) for ids in (("a", "b", "s"), ("b", "a", "s"), ("a", None, "s"), ("a", "b", "t"))}) == 4
