"""Pods: from a job to a manifest, from a pod's status to why it ended, and everything between that talks to Kubernetes."""
