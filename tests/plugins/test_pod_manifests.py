"""Every pod that any DAG starts: valid by the published schemas, allowed by the `restricted` standard, and made in a fixed precedence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import airflow_here
import kubernetes_validate
import pytest
import yaml
from kubernetes.client import ApiClient
from pod_security import violations
from pod_world import TRAIN, sized

from scanloop_plugin.environment import job_environment
from scanloop_plugin.job_spec import JobSpec
from scanloop_plugin.pods.manifest import DEFAULT_TEMPLATE, GRACE_S, QUEUE_LABEL, Launch, build_job, build_pod
from scanloop_plugin.pods.names import MAX_NAME_LENGTH, pod_name
from scanloop_plugin.pods.settings import PodSettings, read_pod_settings
from scanloop_plugin.runners import JobRequest, RunnerUnavailable

IMAGES = {"jobs": "registry.example/jobs@sha256:1", "train": "registry.example/train@sha256:2"}
SETTINGS = PodSettings("scanloop-jobs", "", IMAGES, "", "", "nvidia.com/gpu")
VERSIONS = ("1.33", "1.34", "1.35")


def _jobs() -> list[JobSpec]:
    import sys

    sys.path.insert(0, str(airflow_here.DAGS))
    from scanloop_dags import jobs

    return [value for value in vars(jobs).values() if isinstance(value, JobSpec)]


def _request(job: JobSpec, *, run_id: str = "train_detector__x-1", part: str = "") -> JobRequest:
    parent = {"PATH": "/secret/bin", "HOME": "/root", "SCANLOOP_DATABASE_URL": "postgresql://u:p@db/c", "AWS_SECRET_ACCESS_KEY": "planted"}
    environment = job_environment(job, parent, run_id=run_id, consumed=["a"], actor="airflow:x", attempt=2, task_url="http://airflow/t")
    return JobRequest(job, (*job.command, "--product-line=cabin_baggage"), environment, "mark", run_id, part, "cabin_baggage")


def _plain(thing: Any) -> dict[str, Any]:
    plain: dict[str, Any] = ApiClient().sanitize_for_serialization(thing)
    return plain


def _pod(launch: Launch) -> dict[str, Any]:
    return _plain(build_pod(launch))


def _environment(pod: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value") or one["valueFrom"]["secretKeyRef"] for one in pod["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("job", _jobs(), ids=lambda job: job.name)
class TestEveryJob:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_its_pod_is_valid(self, job: JobSpec, version: str) -> None:
        kubernetes_validate.validate(_pod(Launch(_request(job), SETTINGS, 0)), version, strict=True)

    def test_its_pod_is_restricted(self, job: JobSpec) -> None:
        assert violations(_pod(Launch(_request(job), SETTINGS, 0))) == []

    def test_its_pod_holds_no_secret_and_none_of_airflows_own_environment(self, job: JobSpec) -> None:
        text = json.dumps(_pod(Launch(_request(job), SETTINGS, 0)))
        assert "planted" not in text
        assert "u:p@db" not in text
        assert "/secret/bin" not in text

    def test_it_is_told_the_same_words_as_anywhere(self, job: JobSpec) -> None:
        container = _pod(Launch(_request(job), SETTINGS, 0))["spec"]["containers"][0]
        assert (container["name"], container["command"], container["args"]) == (
            "job",
            ["scanloop"],
            [*job.command, "--product-line=cabin_baggage"],
        )


class TestPrecedence:
    def template(self, folder: Path) -> PodSettings:
        wanted: dict[str, Any] = json.loads(json.dumps(DEFAULT_TEMPLATE))
        wanted["spec"] |= {
            "nodeSelector": {"pool": "gpu"},
            "serviceAccountName": "scanloop-jobs",
            "activeDeadlineSeconds": 5,
            "priorityClassName": "low",
        }
        wanted["spec"]["tolerations"] = [{"key": "gpu", "operator": "Exists"}]
        wanted["spec"]["securityContext"] |= {"runAsNonRoot": False}
        container = wanted["spec"]["containers"][0]
        container |= {"image": "evil", "securityContext": {"privileged": True, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}}}
        container["env"].append({"name": "SCANLOOP_STORE_URL", "value": "s3://bucket"})
        container["resources"] = {"limits": {"memory": "1Gi"}}
        path = folder / "pod-template.yaml"
        path.write_text(yaml.safe_dump(wanted))
        return replace(SETTINGS, template=str(path))

    def test_the_template_gives_what_the_job_does_not_say(self, tmp_path: Path) -> None:
        pod = _pod(Launch(_request(TRAIN), self.template(tmp_path), 0))
        assert pod["spec"]["nodeSelector"] == {"pool": "gpu"}
        assert pod["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert pod["spec"]["serviceAccountName"] == "scanloop-jobs"
        assert pod["spec"]["priorityClassName"] == "low"
        assert _environment(pod)["SCANLOOP_STORE_URL"] == "s3://bucket"
        assert pod["spec"]["securityContext"]["runAsUser"] == 10001

    def test_the_job_goes_before_the_template(self, tmp_path: Path) -> None:
        pod = _pod(Launch(_request(sized(priority="scanloop-train")), self.template(tmp_path), 0))
        container = pod["spec"]["containers"][0]
        assert container["image"] == IMAGES["train"]
        assert container["resources"]["limits"]["memory"] == str(8 << 30)
        assert pod["spec"]["activeDeadlineSeconds"] == TRAIN.timeout_s
        assert pod["spec"]["priorityClassName"] == "scanloop-train"

    def test_no_template_weakens_the_standard(self, tmp_path: Path) -> None:
        assert violations(_pod(Launch(_request(TRAIN), self.template(tmp_path), 0))) == []

    @pytest.mark.parametrize("content", [None, "", "[]", "kind: Job", "a: [", "kind: Pod\nspec: 3"], ids=repr)
    def test_a_template_that_cannot_be_used_is_named(self, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "template.yaml"
        if content is not None:
            path.write_text(content)
        with pytest.raises(RunnerUnavailable, match=r"No pod can be made from the template .*template\.yaml"):
            build_pod(Launch(_request(TRAIN), replace(SETTINGS, template=str(path)), 0))


class TestWhatAJobAsksFor:
    def test_resources(self) -> None:
        given = _pod(Launch(_request(TRAIN), SETTINGS, 0))["spec"]["containers"][0]["resources"]
        limits = {"memory": str(8 << 30), "ephemeral-storage": str(4 << 30), "nvidia.com/gpu": "1"}
        assert given == {"requests": {"cpu": "2000m", **limits}, "limits": limits}

    def test_a_deployment_without_gpus_gives_none(self) -> None:
        given = _pod(Launch(_request(TRAIN), replace(SETTINGS, gpu_resource=""), 0))["spec"]["containers"][0]["resources"]
        assert "nvidia.com/gpu" not in given["limits"]

    def test_more_memory_after_it_ran_out(self) -> None:
        given = _pod(Launch(_request(TRAIN), SETTINGS, 1, memory_factor=2))["spec"]["containers"][0]["resources"]
        assert given["limits"]["memory"] == given["requests"]["memory"] == str(16 << 30)

    def test_secrets_by_name(self) -> None:
        environment = _environment(_pod(Launch(_request(TRAIN), SETTINGS, 0)))
        assert environment["SCANLOOP_DATABASE_URL"] == {"name": "scanloop-catalog", "key": "SCANLOOP_DATABASE_URL", "optional": False}
        assert environment["CLEARML_API_SECRET_KEY"] == {"name": "scanloop-tracking", "key": "CLEARML_API_SECRET_KEY", "optional": True}
        assert "SCANLOOP_LABELLING_TOKEN" not in environment

    def test_identity(self) -> None:
        environment = _environment(_pod(Launch(_request(TRAIN), SETTINGS, 0)))
        assert (environment["SCANLOOP_ATTEMPT"], environment["SCANLOOP_TASK_URL"]) == ("2", "http://airflow/t")

    def test_time_to_say_goodbye(self) -> None:
        assert _pod(Launch(_request(TRAIN), SETTINGS, 0))["spec"]["terminationGracePeriodSeconds"] == GRACE_S

    @pytest.mark.parametrize(("gpu_resource", "queue"), [("nvidia.com/gpu", "gpus"), ("", "all")])
    def test_queue(self, gpu_resource: str, queue: str) -> None:
        settings = replace(SETTINGS, queue="all", gpu_queue="gpus", gpu_resource=gpu_resource)
        assert _pod(Launch(_request(TRAIN), settings, 0))["metadata"]["labels"][QUEUE_LABEL] == queue

    def test_several_gpus_are_several_processes(self) -> None:
        assert _environment(_pod(Launch(_request(sized(gpu=4)), SETTINGS, 0)))["SCANLOOP_PROCESSES_PER_NODE"] == "4"


class TestSeveralNodes:
    def job(self, settings: PodSettings = SETTINGS) -> dict[str, Any]:
        launch = Launch(_request(sized(nodes=3)), settings, 0)
        return _plain(build_job(launch, build_pod(launch)))

    @pytest.mark.parametrize("version", VERSIONS)
    def test_valid(self, version: str) -> None:
        kubernetes_validate.validate(self.job(), version, strict=True)

    def test_restricted(self) -> None:
        assert violations(self.job()["spec"]["template"]) == []

    def test_one_that_fails_ends_all(self) -> None:
        spec = self.job()["spec"]
        assert (spec["completions"], spec["parallelism"], spec["completionMode"], spec["backoffLimit"]) == (3, 3, "Indexed", 0)

    def test_waiting_for_nodes_does_not_count_against_the_deadline(self) -> None:
        spec = self.job()["spec"]
        assert "activeDeadlineSeconds" not in spec
        assert spec["template"]["spec"]["activeDeadlineSeconds"] == TRAIN.timeout_s

    def test_the_host_name_of_every_node_is_one(self) -> None:
        """Kubernetes refuses an Indexed Job whose last pod would have a host name of more than 63 characters."""
        name = pod_name(replace(_request(TRAIN), product_line="a" * 63), 9999)
        assert len(f"{name}-999") <= 63

    def test_they_meet_at_the_first(self) -> None:
        job = self.job()
        name = job["metadata"]["name"]
        environment = {one["name"]: one.get("value") for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert environment["SCANLOOP_RENDEZVOUS"] == f"{name}-0.{name}:29400"
        assert environment["SCANLOOP_NODES"] == "3"
        assert job["spec"]["template"]["spec"]["subdomain"] == name

    def test_the_job_is_queued_not_its_pods(self) -> None:
        job = self.job(replace(SETTINGS, queue="all"))
        assert job["metadata"]["labels"][QUEUE_LABEL] == "all"
        assert QUEUE_LABEL not in job["spec"]["template"]["metadata"]["labels"]


class TestNames:
    def test_the_same_work_has_the_same_name(self) -> None:
        assert pod_name(_request(TRAIN), 0) == pod_name(_request(TRAIN), 0)

    @pytest.mark.parametrize(
        "other", [_request(TRAIN, run_id="other"), _request(TRAIN, part="1/2"), _request(sized(command=("model", "tune")))]
    )
    def test_other_work_has_another(self, other: JobRequest) -> None:
        assert pod_name(_request(TRAIN), 0) != pod_name(other, 0)

    def test_a_later_generation_has_another(self) -> None:
        assert pod_name(_request(TRAIN), 0) != pod_name(_request(TRAIN), 1)

    @pytest.mark.parametrize("line", ["a" * 63, "cabin_baggage", "a__b"])
    def test_names_are_dns_labels(self, line: str) -> None:
        import re

        name = pod_name(replace(_request(TRAIN), product_line=line), 1234)
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= MAX_NAME_LENGTH


class TestSettings:
    def test_a_namespace_is_needed(self) -> None:
        with pytest.raises(RunnerUnavailable, match="SCANLOOP_KUBERNETES_NAMESPACE is not set"):
            read_pod_settings({})

    def test_an_image_is_needed(self) -> None:
        with pytest.raises(RunnerUnavailable, match="SCANLOOP_IMAGE_TRAIN is not set"):
            build_pod(Launch(_request(TRAIN), replace(SETTINGS, images={}), 0))
