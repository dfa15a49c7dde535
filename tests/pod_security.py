"""Judges pods by the `restricted` level of the Pod Security Standards, as the newest version of the standard words it.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/. Windows pods are judged as Linux pods are: there are none here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}  # fmt: skip
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
LOCAL_HOSTS = (None, "", "127.0.0.1", "::1")
HOOKS = (("lifecycle", "postStart"), ("lifecycle", "preStop"), ("livenessProbe",), ("readinessProbe",), ("startupProbe",))


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What the standard forbids about `pod`, a Pod manifest or a pod template (`metadata`, `spec`). One sentence each; empty: it passes."""
    spec: Spec = pod.get("spec") or {}
    containers = [container for kind in CONTAINERS for container in spec.get(kind) or ()]
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    return [*_of_pod(spec, annotations), *_of_contexts(spec, containers), *(found for one in containers for found in _of_container(one))]


def _security(owner: Mapping[str, Any]) -> Mapping[str, Any]:
    return owner.get("securityContext") or {}


def _of_pod(spec: Spec, annotations: Mapping[str, str]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"the pod shares the host's namespace: {name}"
    for volume in spec.get("volumes") or ():
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume.get('name')} is a {kind}"
    for sysctl in _security(spec).get("sysctls") or ():
        if sysctl.get("name") not in SYSCTLS:
            yield f"sysctl {sysctl.get('name')} is not a safe one"
    for name, profile in annotations.items():
        if name.startswith(APPARMOR) and profile not in ("", "runtime/default") and not profile.startswith("localhost/"):
            yield f"AppArmor profile {profile!r} of {name.removeprefix(APPARMOR)}"


def _of_contexts(spec: Spec, containers: list[Mapping[str, Any]]) -> Iterator[str]:
    """What pod and containers say together: a container's value goes before the pod's."""
    pod = _security(spec)
    for where, context in (("the pod", pod), *((f"container {one.get('name')}", _security(one)) for one in containers)):
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            yield f"{where} is a Windows host process"
        if context.get("runAsNonRoot") is False:
            yield f"{where} says runAsNonRoot: false"
        if context.get("runAsUser") == 0:
            yield f"{where} runs as user 0"
        selinux = context.get("seLinuxOptions") or {}
        if (selinux.get("type") or "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
            yield f"{where} has SELinux options beyond the allowed types"
        if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
            yield f"{where} is not confined by AppArmor"
        if (context.get("seccompProfile") or {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
            yield f"{where} is not confined by seccomp"
    for container in containers:
        context = {**{name: pod.get(name) for name in ("runAsNonRoot", "seccompProfile")}, **_set(_security(container))}
        if context["runAsNonRoot"] is not True:
            yield f"container {container.get('name')} does not say runAsNonRoot: true, nor does the pod"
        if not (context["seccompProfile"] or {}).get("type"):
            yield f"container {container.get('name')} names no seccomp profile, nor does the pod"


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _of_container(container: Mapping[str, Any]) -> Iterator[str]:
    name, context = container.get("name"), _security(container)
    if context.get("privileged"):
        yield f"container {name} is privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"container {name} does not say allowPrivilegeEscalation: false"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield f"container {name} does not drop all capabilities"
    for added in set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield f"container {name} adds the capability {added}"
    if context.get("procMount") not in (None, "Default"):
        yield f"container {name} mounts proc as {context['procMount']}"
    for port in container.get("ports") or ():
        if port.get("hostPort"):
            yield f"container {name} takes the host's port {port['hostPort']}"
    for path in HOOKS:
        hook: Any = container
        for part in path:
            hook = (hook or {}).get(part) or {}
        for kind in ("httpGet", "tcpSocket"):
            if (hook.get(kind) or {}).get("host") not in LOCAL_HOSTS:
                yield f"container {name} probes the host {hook[kind]['host']}"
