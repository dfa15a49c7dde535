"""The chart, rendered by Helm itself: valid for three versions of Kubernetes, restricted, least privilege, no secret, nothing unknown."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import Chart, HelmError, lint
from pod_security import violations

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "scanloop"
VERSIONS = ("1.33", "1.34", "1.35")
LEAST = {"images": {"jobs": "registry.example/jobs@sha256:0"}}
FOREIGN = {"ResourceFlavor", "ClusterQueue", "LocalQueue", "ExternalSecret"}
"""Kinds that Kubernetes itself does not know."""
Manifest = dict[str, Any]


def _values(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return values


CASES = {"least": LEAST, "everything": _values("everything"), "laptop": _values("laptop")}


def _rendered(values: dict[str, Any]) -> dict[str, str]:
    with Chart.load(CHART) as chart:
        return chart.render(values, name="scanloop", namespace="scanloop-jobs")


def _manifests(values: dict[str, Any]) -> list[Manifest]:
    found = []
    for name, text in _rendered(values).items():
        if name.endswith(".yaml"):
            found += [one for one in yaml.safe_load_all(text) if one]
    return found


def _of(values: dict[str, Any], kind: str, name: str | None = None) -> list[Manifest]:
    return [one for one in _manifests(values) if one["kind"] == kind and name in (None, one["metadata"]["name"])]


def _pod_template(values: dict[str, Any]) -> Manifest:
    (found,) = _of(values, "ConfigMap", "scanloop-pod-template")
    template: Manifest = yaml.safe_load(found["data"]["pod-template.yaml"])
    return template


def _as_run(template: Manifest) -> Manifest:
    """The template as the operator completes it."""
    pod = copy.deepcopy(template)
    pod["metadata"]["name"] = "p"
    pod["spec"]["containers"][0] |= {"image": "i", "command": ["scanloop"], "args": ["x"]}
    return pod


def _changed(**changes: Any) -> dict[str, Any]:
    return LEAST | changes


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
class TestEveryCase:
    def test_helm_finds_nothing_wrong(self, values: dict[str, Any]) -> None:
        report = lint(CHART, values, strict=True)
        assert report["errors"] == []
        assert {message["error"] for message in report["messages"]} <= {"icon is recommended"}

    @pytest.mark.parametrize("version", VERSIONS)
    def test_manifests_are_valid(self, values: dict[str, Any], version: str) -> None:
        for one in [*_manifests(values), _as_run(_pod_template(values))]:
            if one["kind"] not in FOREIGN:
                kubernetes_validate.validate(one, version, strict=True)

    def test_pods_are_restricted(self, values: dict[str, Any]) -> None:
        pods = [one["spec"]["template"] for one in _of(values, "Job")] + [_as_run(_pod_template(values))]
        assert [violations(pod) for pod in pods] == [[]] * len(pods)

    def test_root_file_systems_are_read_only(self, values: dict[str, Any]) -> None:
        pods = [one["spec"]["template"] for one in _of(values, "Job")] + [_pod_template(values)]
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for pod in pods for container in pod["spec"]["containers"])

    def test_no_secret_is_made_and_none_is_read_but_by_name(self, values: dict[str, Any]) -> None:
        assert _of(values, "Secret") == []
        text = json.dumps(_manifests(values)).lower()
        assert not [word for word in ("password", "aws_secret_access_key", "://user:") if word in text]

    def test_everything_says_whose_it_is(self, values: dict[str, Any]) -> None:
        for one in _manifests(values):
            assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "scanloop"


class TestPermissions:
    def test_airflow_may_do_just_this(self) -> None:
        (role,) = _of(LEAST, "Role")
        rules = {(rule["apiGroups"][0], rule["resources"][0]): sorted(rule["verbs"]) for rule in role["rules"]}
        assert rules == {
            ("", "pods"): ["create", "delete", "get", "list", "patch", "watch"],
            ("", "pods/log"): ["get"],
            ("", "events"): ["list"],
            ("", "services"): ["create"],
            ("batch", "jobs"): ["create", "delete", "get", "list", "patch"],
        }

    def test_nothing_is_cluster_wide(self) -> None:
        assert _of(CASES["everything"], "ClusterRole") == _of(CASES["everything"], "ClusterRoleBinding") == []

    def test_they_are_bound_to_airflows_accounts(self) -> None:
        (binding,) = _of(CASES["everything"], "RoleBinding")
        assert [(one["name"], one["namespace"]) for one in binding["subjects"]] == [
            ("airflow-worker", "airflow-production"), ("airflow-triggerer", "airflow-production"), ("airflow-scheduler", "airflow-production"),
        ]  # fmt: skip

    def test_jobs_have_no_token_of_the_cluster(self) -> None:
        (account,) = _of(LEAST, "ServiceAccount")
        assert account["automountServiceAccountToken"] is False
        assert _pod_template(LEAST)["spec"]["automountServiceAccountToken"] is False


class TestNetwork:
    def test_everything_is_denied_first(self) -> None:
        (deny,) = _of(LEAST, "NetworkPolicy", "scanloop-default-deny")
        assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_only_what_is_named_is_allowed(self) -> None:
        names = {one["metadata"]["name"] for one in _of(CASES["everything"], "NetworkPolicy")}
        assert names == {
            "scanloop-default-deny",
            "scanloop-dns",
            "scanloop-training",
            "scanloop-migrations",
            "scanloop-to-catalog",
            "scanloop-to-store",
            "scanloop-to-tracking",
        }

    def test_a_destination_is_its_ports_and_peers(self) -> None:
        (policy,) = _of(CASES["everything"], "NetworkPolicy", "scanloop-to-catalog")
        assert policy["spec"]["egress"] == [{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5432}]}]

    def test_the_migration_reaches_its_catalog_before_the_release_is_there(self) -> None:
        (policy,) = _of(CASES["everything"], "NetworkPolicy", "scanloop-migrations")
        (job,) = _of(CASES["everything"], "Job")
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
        mine, its = (one["metadata"]["annotations"] for one in (policy, job))
        assert mine["helm.sh/hook"] == its["helm.sh/hook"]
        assert int(mine["helm.sh/hook-weight"]) < int(its["helm.sh/hook-weight"])
        (catalog,) = _of(CASES["everything"], "NetworkPolicy", "scanloop-to-catalog")
        assert catalog["spec"]["egress"][0] in policy["spec"]["egress"]

    def test_names_are_resolved_where_the_site_says(self) -> None:
        peers = [{"ipBlock": {"cidr": "169.254.20.10/32"}}]
        (policy,) = _of(_changed(network={"dnsPeers": peers}), "NetworkPolicy", "scanloop-dns")
        (rule,) = policy["spec"]["egress"]
        assert rule["to"] == peers
        assert {one["protocol"] for one in rule["ports"]} == {"UDP", "TCP"}

    def test_off(self) -> None:
        assert _of(_changed(network={"enabled": False}), "NetworkPolicy") == []


class TestSwitches:
    def test_migrations_run_before_anything_else(self) -> None:
        (job,) = _of(LEAST, "Job")
        assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["catalog", "migrate"]

    def test_no_migrations(self) -> None:
        assert _of(_changed(migrations={"enabled": False}), "Job") == []

    @pytest.mark.parametrize(
        ("section", "kinds"),
        [("quota", {"ResourceQuota"}), ("limitRange", {"LimitRange"}), ("priorityClasses", {"PriorityClass"}),
         ("kueue", {"ResourceFlavor", "ClusterQueue", "LocalQueue"}), ("cache", {"PersistentVolumeClaim"})],
    )  # fmt: skip
    def test_a_switch_makes_its_things_and_only_those(self, section: str, kinds: set[str]) -> None:
        before = {one["kind"] for one in _manifests(LEAST)}
        after = {one["kind"] for one in _manifests(_changed(**{section: {"enabled": True}}))}
        assert after - before == kinds

    @pytest.mark.parametrize(("kind", "volume"), [("shared", "persistentVolumeClaim"), ("ephemeral", "ephemeral")])
    def test_the_cache_is_mounted_and_named(self, kind: str, volume: str) -> None:
        spec = _pod_template(_changed(cache={"enabled": True, "kind": kind}))["spec"]
        assert volume in next(one for one in spec["volumes"] if one["name"] == "cache")
        assert {"name": "SCANLOOP_CACHE", "value": "/cache"} in spec["containers"][0]["env"]

    def test_the_cluster_queue_covers_what_jobs_ask_for(self) -> None:
        (queue,) = _of(CASES["everything"], "ClusterQueue")
        (group,) = queue["spec"]["resourceGroups"]
        assert set(group["coveredResources"]) == {"cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"}
        for flavor in group["flavors"]:
            assert [one["name"] for one in flavor["resources"]] == group["coveredResources"]

    def test_no_job_is_refused_for_a_limit_that_it_did_not_ask_for(self) -> None:
        """Jobs request processor time and set no limit of it: a default limit would become theirs, and one below their request refuses the pod."""
        (found,) = _of(CASES["everything"], "LimitRange")
        assert [set(one["default"]) for one in found["spec"]["limits"]] == [{"memory", "ephemeral-storage"}]

    def test_addresses_reach_the_jobs(self) -> None:
        environment = {one["name"]: one["value"] for one in _pod_template(CASES["everything"])["spec"]["containers"][0]["env"]}
        assert environment["SCANLOOP_STORE_URL"] == "s3://scanloop/store"
        assert environment["CLEARML_API_HOST"] == "https://api.clearml.example"
        assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"

    def test_external_secrets_come_before_what_needs_them(self) -> None:
        for secret in _of(CASES["everything"], "ExternalSecret"):
            assert int(secret["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0


BAD = {
    "unknown key": _changed(unknown=1),
    "unknown key below": _changed(jobs={"image": "x"}),
    "unknown key in a list": _changed(network={"egress": [{"name": "a", "ports": [1], "peers": [{"ipBlock": {}}], "port": 2}]}),
    "wrong type": _changed(quota={"enabled": "yes"}),
    "root": _changed(jobs={"user": 0}),
    "secret in an address": _changed(store={"url": "https://key:secret@s3.example/b"}),
    "no quantity": _changed(cache={"size": "much"}),
    "port": _changed(network={"egress": [{"name": "a", "ports": [70000], "peers": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]}),
    "no account": _changed(airflow={"serviceAccounts": []}),
    "no image": {},
}


def _check_and_render(values: dict[str, Any]) -> None:
    with Chart.load(CHART) as chart:
        chart.validate_schema(values)
        chart.render(values, name="scanloop", namespace="x")


@pytest.mark.parametrize("values", BAD.values(), ids=BAD)
def test_bad_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(HelmError):
        _check_and_render(values)


def _objects(schema: Any, path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, schema)] if isinstance(schema, dict) and "properties" in schema else []
    if isinstance(schema, dict):
        for name, value in schema.items():
            found += _objects(value, f"{path}/{name}")
    return found


def test_the_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert [path for path, one in _objects(schema) if one.get("additionalProperties") is not False] == []


def test_every_value_is_described() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def undescribed(value: Any, described: dict[str, Any], path: str) -> list[str]:
        missing = [] if "description" in described else [path]
        for name, below in value.items() if isinstance(value, dict) and "properties" in described else ():
            missing += undescribed(below, described["properties"][name], f"{path}.{name}")
        return missing

    assert undescribed(values, schema, "values") == []


class TestNotes:
    def test_they_say_what_to_check(self) -> None:
        notes = _rendered(CASES["everything"])["scanloop/templates/NOTES.txt"]
        assert "system:serviceaccount:airflow-production:airflow-worker" in notes
        assert "WARNING" not in notes

    def test_they_warn(self) -> None:
        assert _rendered(LEAST)["scanloop/templates/NOTES.txt"].count("WARNING") == 2


class TestAirflowValues:
    VALUES: dict[str, Any] = yaml.safe_load((ROOT / "helm" / "airflow-values.yaml").read_text())

    def test_the_version_is_the_locked_one(self) -> None:
        locked = next(line for line in (ROOT / "requirements.in").read_text().splitlines() if line.startswith("apache-airflow=="))
        assert self.VALUES["airflowVersion"] == locked.partition("==")[2]

    def test_the_pod_template_is_where_the_operator_looks(self) -> None:
        environment = {one["name"]: one["value"] for one in self.VALUES["env"]}
        mount = next(one for one in self.VALUES["volumeMounts"] if one["name"] == "scanloop-pod-template")
        assert environment["SCANLOOP_KUBERNETES_POD_TEMPLATE"] == f"{mount['mountPath']}/pod-template.yaml"
        assert self.VALUES["volumes"][0]["configMap"]["name"] == "scanloop-pod-template"

    def test_accounts_are_those_that_the_chart_binds(self) -> None:
        accounts = yaml.safe_load((CHART / "values.yaml").read_text())["airflow"]["serviceAccounts"]
        assert [self.VALUES[part]["serviceAccount"]["name"] for part in ("workers", "triggerer")] == accounts

    def test_the_asynchronous_address_is_given_beside_the_other(self) -> None:
        assert {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "SCANLOOP_DATABASE_URL"} <= {one["envName"] for one in self.VALUES["secret"]}

    def test_a_read_only_root_has_a_place_for_what_is_temporary(self) -> None:
        assert self.VALUES["securityContexts"]["containers"]["readOnlyRootFilesystem"] is True
        mounts = {one["mountPath"]: one["name"] for one in self.VALUES["volumeMounts"]}
        assert any(one["name"] == mounts["/tmp"] and "emptyDir" in one for one in self.VALUES["volumes"])

    def test_nothing_runs_that_our_image_does_not_have(self) -> None:
        parts = ("workers", "triggerer", "scheduler", "dagProcessor")
        assert [self.VALUES[part]["logGroomerSidecar"] for part in parts] == [{"enabled": False}] * len(parts)

    def test_no_account_has_a_password_that_everybody_knows(self) -> None:
        assert self.VALUES["createUserJob"] == {"defaultUser": {"enabled": False}}

    def test_no_secret_is_in_it(self) -> None:
        assert not {"webserverSecretKey", "fernetKey", "apiSecretKey", "jwtSecret"} & set(self.VALUES)
        assert "metadataConnection" not in self.VALUES["data"]


LAPTOP: list[Manifest] = list(yaml.safe_load_all((ROOT / "helm" / "laptop" / "storage.yaml").read_text()))


class TestLaptop:
    """The database and the store of docs/kubernetes.md's laptop cluster."""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_manifests_are_valid(self, version: str) -> None:
        for one in LAPTOP:
            kubernetes_validate.validate(one, version, strict=True)

    def test_pods_are_restricted(self) -> None:
        pods = [one["spec"]["template"] for one in LAPTOP if one["kind"] in ("Deployment", "Job")]
        assert [violations(pod) for pod in pods] == [[]] * 3

    def test_they_are_where_the_laptops_values_look(self) -> None:
        services = {one["metadata"]["name"]: one for one in LAPTOP if one["kind"] == "Service"}
        assert {one["metadata"]["namespace"] for one in services.values()} == {"storage"}
        endpoint = CASES["laptop"]["store"]["endpointUrl"]
        assert endpoint == f"http://s3.storage.svc:{services['s3']['spec']['ports'][0]['port']}"
        ports = {one["name"]: one["ports"] for one in CASES["laptop"]["network"]["egress"]}
        assert ports == {name: [services[to]["spec"]["ports"][0]["port"]] for name, to in (("catalog", "postgres"), ("store", "s3"))}
        for service in services.values():
            (pods,) = [
                one["spec"]["template"]["metadata"]["labels"]
                for one in LAPTOP
                if one["kind"] == "Deployment" and one["metadata"]["name"] == service["metadata"]["name"]
            ]
            assert service["spec"]["selector"].items() <= pods.items()

    def test_airflows_values_for_it_leave_no_name_out(self) -> None:
        """Helm replaces lists whole, so what the file for all sites names must be named again."""
        own = yaml.safe_load((ROOT / "helm" / "laptop" / "airflow-values.yaml").read_text())
        environment = {one["name"]: one["value"] for one in own["env"]}
        assert {one["name"] for one in TestAirflowValues.VALUES["env"]} <= set(environment)
        assert environment["AWS_ENDPOINT_URL"] == CASES["laptop"]["store"]["endpointUrl"]
        assert environment["SCANLOOP_STORE_URL"] == CASES["laptop"]["store"]["url"]
        assert environment["SCANLOOP_IMAGE_JOBS"] == CASES["laptop"]["images"]["jobs"]
        assert environment["SCANLOOP_IMAGE_TRAIN"] == CASES["laptop"]["images"]["train"]
        account = own["scheduler"]["serviceAccount"]["name"]
        assert account in yaml.safe_load((CHART / "values.yaml").read_text())["airflow"]["serviceAccounts"]
