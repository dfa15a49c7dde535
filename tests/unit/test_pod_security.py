"""The checker of pods judges the standard's published fixtures as the standard does. Each case is named as its fixture is.

Source of the cases: the fixture generators of Kubernetes' pod-security-admission (level restricted, the newest version each check has).
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pod_security import violations

EVERY_CAPABILITY = [
    "SYS_TIME", "SYS_MODULE", "SYS_RAWIO", "SYS_PACCT", "SYS_ADMIN", "SYS_NICE", "SYS_RESOURCE", "SYS_TTY_CONFIG", "MKNOD", "AUDIT_WRITE",
    "AUDIT_CONTROL", "MAC_OVERRIDE", "MAC_ADMIN", "NET_ADMIN", "SYSLOG", "CHOWN", "NET_RAW", "DAC_OVERRIDE", "FOWNER", "DAC_READ_SEARCH",
    "FSETID", "KILL", "SETGID", "SETUID", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "IPC_LOCK", "IPC_OWNER", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_BOOT", "LEASE", "SETFCAP", "WAKE_ALARM", "BLOCK_SUSPEND",
]  # fmt: skip
ADDED = ["AUDIT_WRITE", "CHOWN", "FOWNER", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"]
FORBIDDEN_VOLUMES = (
    "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "fc",
    "azureFile", "vsphereVolume", "quobyte", "azureDisk", "portworxVolume", "scaleIO", "storageos", "hostPath",
)  # fmt: skip

CONTAINER, INIT = ("containers", 0), ("initContainers", 0)
SECURITY = ("securityContext",)
ALLOWED_VOLUMES = ["emptyDir", "secret", "persistentVolumeClaim", "downwardAPI", "configMap", "projected", "ephemeral", "csi"]

PASSES: dict[str, dict[tuple[Any, ...], Any]] = {
    "base": {},
    "apparmorprofile0 field": {
        (*SECURITY, "appArmorProfile"): {"type": "RuntimeDefault"}, (*CONTAINER, *SECURITY, "appArmorProfile"): {"type": "Localhost"},
    },
    "capabilities_restricted0": {
        (*CONTAINER, *SECURITY, "capabilities", "add"): ["NET_BIND_SERVICE"], (*INIT, *SECURITY, "capabilities", "add"): ["NET_BIND_SERVICE"],
    },
    "hostports0": {(*CONTAINER, "ports"): [{"containerPort": 12345}]},
    "hostprobesandhostlifecycle1": {(*CONTAINER, "livenessProbe"): {"httpGet": {"host": "127.0.0.1"}}},
    "hostprobesandhostlifecycle2": {(*CONTAINER, "readinessProbe"): {"tcpSocket": {"host": "::1"}}},
    "privileged0": {(*CONTAINER, *SECURITY, "privileged"): False},
    "procmount0": {(*CONTAINER, *SECURITY, "procMount"): "Default"},
    "restrictedvolumes0": {("volumes",): [{"name": "v"}, *({"name": kind.lower(), kind: {}} for kind in ALLOWED_VOLUMES)]},
    "runasnonroot1": {
        (*SECURITY, "runAsNonRoot"): None, (*CONTAINER, *SECURITY, "runAsNonRoot"): True, (*INIT, *SECURITY, "runAsNonRoot"): True,
    },
    "runasuser0": {(*SECURITY, "runAsUser"): 1000, (*CONTAINER, *SECURITY, "runAsUser"): 1000},
    "seccompprofile_restricted1": {(*SECURITY, "seccompProfile"): {"type": "Localhost", "localhostProfile": "testing"}},
    "seccompprofile_restricted2": {
        (*SECURITY, "seccompProfile"): None, (*CONTAINER, *SECURITY, "seccompProfile"): {"type": "RuntimeDefault"},
        (*INIT, *SECURITY, "seccompProfile"): {"type": "Localhost", "localhostProfile": "testing"},
    },
    "selinuxoptions1": {
        (*SECURITY, "seLinuxOptions"): {"type": "container_t", "level": "s0"}, (*CONTAINER, *SECURITY, "seLinuxOptions"): {"type": ""},
    },
    "sysctls1": {(*SECURITY, "sysctls"): [{"name": "kernel.shm_rmid_forced", "value": "0"}, {"name": "net.ipv4.tcp_wmem", "value": "4"}]},
    "hostprocess0": {(*SECURITY, "windowsOptions"): {"hostProcess": False}},
}  # fmt: skip

FAILS: dict[str, dict[tuple[Any, ...], Any]] = {
    "allowprivilegeescalation0": {(*CONTAINER, *SECURITY, "allowPrivilegeEscalation"): True},
    "allowprivilegeescalation1": {(*INIT, *SECURITY, "allowPrivilegeEscalation"): True},
    "allowprivilegeescalation2": {(*CONTAINER, *SECURITY, "allowPrivilegeEscalation"): None},
    "allowprivilegeescalation3": {(*INIT, *SECURITY, "allowPrivilegeEscalation"): None},
    "apparmorprofile0": {(*SECURITY, "appArmorProfile"): {"type": "Unconfined"}},
    "apparmorprofile1": {(*CONTAINER, *SECURITY, "appArmorProfile"): {"type": "Unconfined"}},
    "capabilities_baseline0": {(*CONTAINER, *SECURITY, "capabilities", "add"): ["NET_RAW"]},
    "capabilities_baseline1": {(*INIT, *SECURITY, "capabilities", "add"): ["NET_RAW"]},
    "capabilities_baseline2": {(*CONTAINER, *SECURITY, "capabilities", "add"): ["chown"]},
    "capabilities_baseline3": {(*CONTAINER, *SECURITY, "capabilities", "add"): ["CAP_CHOWN"]},
    "capabilities_restricted0": {(*CONTAINER, *SECURITY, "capabilities", "drop"): []},
    "capabilities_restricted1": {(*INIT, *SECURITY, "capabilities", "drop"): []},
    "capabilities_restricted2": {(*CONTAINER, *SECURITY, "capabilities", "drop"): EVERY_CAPABILITY},
    "capabilities_restricted3": {(*CONTAINER, *SECURITY, "capabilities", "add"): ADDED},
    "hostnamespaces0": {("hostIPC",): True},
    "hostnamespaces1": {("hostNetwork",): True},
    "hostnamespaces2": {("hostPID",): True},
    "hostports0": {(*CONTAINER, "ports"): [{"containerPort": 12345, "hostPort": 12345}]},
    "hostports1": {(*INIT, "ports"): [{"containerPort": 12346, "hostPort": 12346}]},
    "hostports2": {(*CONTAINER, "ports"): [{"containerPort": 1, "hostPort": 1}, {"containerPort": 2}]},
    "hostprobesandhostlifecycle0": {(*CONTAINER, "livenessProbe"): {"httpGet": {"host": "bad.host"}}},
    "hostprobesandhostlifecycle1": {(*INIT, "readinessProbe"): {"tcpSocket": {"host": "8.8.8.8"}}},
    "hostprobesandhostlifecycle2": {(*CONTAINER, "lifecycle"): {"postStart": {"httpGet": {"host": "bad.host"}}}},
    "privileged0": {(*CONTAINER, *SECURITY, "privileged"): True},
    "privileged1": {(*INIT, *SECURITY, "privileged"): True},
    "procmount0": {(*CONTAINER, *SECURITY, "procMount"): "Unmasked"},
    "procmount1": {(*INIT, *SECURITY, "procMount"): "Unmasked"},
    **{f"restrictedvolumes{at} {kind}": {("volumes",): [{"name": "v", kind: {}}]} for at, kind in enumerate(FORBIDDEN_VOLUMES)},
    "runasnonroot0": {(*SECURITY, "runAsNonRoot"): None},
    "runasnonroot1": {(*SECURITY, "runAsNonRoot"): False},
    "runasnonroot2": {(*CONTAINER, *SECURITY, "runAsNonRoot"): False},
    "runasnonroot3": {(*INIT, *SECURITY, "runAsNonRoot"): False},
    "runasuser0": {(*SECURITY, "runAsUser"): 0},
    "runasuser1": {(*CONTAINER, *SECURITY, "runAsUser"): 0},
    "runasuser2": {(*INIT, *SECURITY, "runAsUser"): 0},
    "seccompprofile_restricted0": {(*SECURITY, "seccompProfile"): None},
    "seccompprofile_restricted1": {(*SECURITY, "seccompProfile"): {"type": "Unconfined"}},
    "seccompprofile_restricted2": {(*SECURITY, "seccompProfile"): None, (*CONTAINER, *SECURITY, "seccompProfile"): {"type": "RuntimeDefault"}},
    "seccompprofile_restricted3": {(*SECURITY, "seccompProfile"): None, (*INIT, *SECURITY, "seccompProfile"): {"type": "RuntimeDefault"}},
    "seccompprofile_restricted4": {(*INIT, *SECURITY, "seccompProfile"): {"type": "Unconfined"}},
    "selinuxoptions0": {(*SECURITY, "seLinuxOptions"): {"type": "somevalue"}},
    "selinuxoptions1": {(*CONTAINER, *SECURITY, "seLinuxOptions"): {"type": "somevalue"}},
    "selinuxoptions2": {(*INIT, *SECURITY, "seLinuxOptions"): {"type": "somevalue"}},
    "selinuxoptions3": {(*SECURITY, "seLinuxOptions"): {"user": "somevalue"}},
    "selinuxoptions4": {(*SECURITY, "seLinuxOptions"): {"role": "somevalue"}},
    "sysctls0": {(*SECURITY, "sysctls"): [{"name": "othersysctl", "value": "other"}]},
    "hostprocess0": {(*SECURITY, "windowsOptions"): {"hostProcess": True}},
    "hostprocess1": {(*CONTAINER, *SECURITY, "windowsOptions"): {"hostProcess": True}},
}  # fmt: skip


def _base() -> dict[str, Any]:
    def container(name: str) -> dict[str, Any]:
        context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        return {"name": name, "image": "registry.k8s.io/pause", "securityContext": context}

    context = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return {"containers": [container("container1")], "initContainers": [container("initcontainer1")], "securityContext": context}


def _changed(changes: dict[tuple[Any, ...], Any]) -> dict[str, Any]:
    spec = copy.deepcopy(_base())
    for path, value in changes.items():
        owner: Any = spec
        for part in path[:-1]:
            owner = owner[part] if isinstance(part, int) else owner.setdefault(part, {})
        if value is None:
            owner.pop(path[-1], None)
        else:
            owner[path[-1]] = value
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test"}, "spec": spec}


def _cases(table: dict[str, dict[tuple[Any, ...], Any]]) -> list[Any]:
    return [pytest.param(_changed(changes), id=name) for name, changes in table.items()]


@pytest.mark.parametrize("pod", _cases(PASSES))
def test_what_the_standard_passes_is_passed(pod: dict[str, Any]) -> None:
    assert violations(pod) == []


@pytest.mark.parametrize("pod", _cases(FAILS))
def test_what_the_standard_fails_is_named(pod: dict[str, Any]) -> None:
    assert violations(pod)


@pytest.mark.parametrize("profile", ["unconfined", "somevalue"])
def test_an_apparmor_annotation_is_judged_too(profile: str) -> None:
    pod = _changed({})
    pod["metadata"]["annotations"] = {"container.apparmor.security.beta.kubernetes.io/container1": profile}
    assert violations(pod)
