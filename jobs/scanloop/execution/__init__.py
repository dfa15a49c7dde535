"""How a job runs: its identity, its lease, its publication and its receipt."""

from scanloop.execution.job import JobRun, RunIdentity, execute
from scanloop.execution.parts import execute_in_chunks
from scanloop.execution.publication import Publication

__all__ = ["JobRun", "Publication", "RunIdentity", "execute", "execute_in_chunks"]
