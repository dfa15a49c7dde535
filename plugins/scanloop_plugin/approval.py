"""A person's yes or no to a promotion, where the policy asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from scanloop_plugin.references import ResultEntry

if TYPE_CHECKING:
    from airflow.sdk import Context

RESPONSE_TIMEOUT = timedelta(days=7)


class PromotionApprovalOperator(ApprovalOperator):
    """Ask the approvers that a decision names. Skipped when the decision needs none. Silence for a week is a no.

    :param decision: the result of the comparison: `decision_id`, `verdict`, `needs_approval`, `approvers`, `reasons`.
    """

    template_fields = (*ApprovalOperator.template_fields, "decision")

    def __init__(self, *, decision: ResultEntry | Mapping[str, Any], **kwargs: Any) -> None:
        kwargs.setdefault("execution_timeout", timedelta(minutes=5))
        super().__init__(
            subject="Promote the candidate of {{ dag_run.partition_key }}?",
            defaults=self.REJECT,
            response_timeout=RESPONSE_TIMEOUT,
            **kwargs,
        )
        self.decision = decision

    def execute(self, context: Context) -> Any:
        """Ask, or skip. Raises AirflowFailException for a decision that needs approval and names nobody who may give it."""
        decision = self.decision
        if decision["verdict"] != "promote" or not decision["needs_approval"]:
            raise AirflowSkipException(f"Verdict {decision['verdict']}: no approval is needed.")
        approvers = decision.get("approvers") or []
        if not approvers:
            raise AirflowFailException(f"Decision {decision['decision_id']} needs approval and names no approver.")
        self.assigned_users = [{"id": name, "name": name} for name in approvers]
        self.body = decision_text(decision)
        return super().execute(context)


def decision_text(decision: Mapping[str, Any]) -> str:
    """What the approver reads, in Markdown. Pure."""
    reasons = "\n".join(f"- {str(reason).replace('`', '')}" for reason in decision.get("reasons") or ["no reason was given"])
    evidence = f"\n\nEvidence: `{decision['evidence_key']}`" if decision.get("evidence_key") else ""
    return f"Decision `{decision['decision_id']}`, verdict **{decision['verdict']}**.\n\n{reasons}{evidence}"
