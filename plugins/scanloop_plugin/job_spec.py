"""A job as data: what to run and what it may use, not where."""

from __future__ import annotations

import re
from dataclasses import dataclass

SECRET_VARIABLES: dict[str, tuple[str, ...]] = {
    "catalog": ("SCANLOOP_DATABASE_URL",),
    "store": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "tracking": ("CLEARML_API_ACCESS_KEY", "CLEARML_API_SECRET_KEY"),
    "labelling": ("SCANLOOP_LABELLING_TOKEN",),
}
"""The secrets a job can name, and the environment variables that carry each. A job sees only those it names."""

MIN_MEMORY_BYTES = 64 << 20
MAX_TIMEOUT_S = 7 * 24 * 3600
MAX_NODES = 64
MAX_GPUS = 16

_WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class JobSpec:
    """One job of Scanloop. Raises ValueError when a field cannot be."""

    command: tuple[str, ...]
    """Words after `scanloop`, without options."""
    image: str
    """Name of the container image, one of the folders of images/; the deployment chooses its digest."""
    cpu: float
    """Cores it is given."""
    memory_bytes: int
    """Memory it is given; in a pod also the limit."""
    timeout_s: int
    """Its process tree is ended after this many seconds."""
    gpu: int = 0
    """GPUs it is given on each node, in a deployment that has any."""
    nodes: int = 1
    """Nodes it runs on at the same time."""
    ephemeral_storage_bytes: int = 4 << 30
    """Scratch space it is given."""
    priority: str | None = None
    """Name of the priority class of its pods; none: the deployment's."""
    secrets: tuple[str, ...] = ("catalog", "store")
    """Secrets it sees, by name."""
    is_keyed: bool = False
    """Whether it works for one product line, and so needs the partition key of its run."""
    part_option: str | None = None
    """The option that tells apart several of this job in one run; its value is the part in the receipt."""

    def __post_init__(self) -> None:
        if not self.command or not all(_WORD.fullmatch(word) for word in self.command):
            raise ValueError(f"command: expected plain words, found {self.command!r}")
        if not _WORD.fullmatch(self.image):
            raise ValueError(f"image: expected a plain name without registry, tag or digest, found {self.image!r}")
        if self.cpu <= 0 or self.gpu < 0:
            raise ValueError(f"cpu must be above 0 and gpu not below it, found {self.cpu} and {self.gpu}")
        if not 1 <= self.nodes <= MAX_NODES or self.gpu > MAX_GPUS:
            raise ValueError(f"nodes: expected 1 to {MAX_NODES}, gpu at most {MAX_GPUS}; found {self.nodes} and {self.gpu}")
        if self.ephemeral_storage_bytes <= 0:
            raise ValueError(f"ephemeral_storage_bytes: expected more than 0, found {self.ephemeral_storage_bytes}")
        if self.memory_bytes < MIN_MEMORY_BYTES:
            raise ValueError(f"memory_bytes: expected at least {MIN_MEMORY_BYTES}, found {self.memory_bytes}")
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise ValueError(f"timeout_s: expected 1 to {MAX_TIMEOUT_S}, found {self.timeout_s}")
        if unknown := set(self.secrets) - set(SECRET_VARIABLES):
            raise ValueError(f"secrets: {min(unknown)!r} is not one of {', '.join(SECRET_VARIABLES)}")
        if self.part_option is not None and not _WORD.fullmatch(self.part_option):
            raise ValueError(f"part_option: expected the name of an option, found {self.part_option!r}")

    @property
    def name(self) -> str:
        """The job's name in receipts and in the catalog: `ingest.shard`."""
        return ".".join(self.command)
