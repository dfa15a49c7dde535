"""What a product line is: the YAML that one team owns, as values that check themselves."""

from __future__ import annotations

import hashlib
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scanloop.errors import WrongArguments
from scanloop.query.fields import SCANS
from scanloop.query.language import QueryWrong, parse

Checked = TypeVar("Checked", bound=BaseModel)
Name = Field(pattern=r"^[a-z][a-z0-9_]{1,62}$")


class Part(BaseModel):
    """A part of a definition: nothing unknown, nothing that changes, no truth value where a number or a text belongs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_a_number(cls, value: Any) -> Any:
        """YAML reads `yes`, `no`, `on` and `off` as truth values, and nothing here is one."""
        if isinstance(value, bool):
            raise ValueError("expected a number or text, found a truth value (YAML reads yes, no, on and off as one; quote a word)")  # noqa: TRY004  pydantic asks for it
        return value


class Scanners(Part):
    """Which scanners deliver for a product line."""

    include: tuple[str, ...] = ("*",)
    """Patterns over scanner ids (`*` matches anything)."""


class Selection(Part):
    """How scans are chosen for labelling."""

    budget_scans: int = Field(gt=0)
    """Scans chosen in one selection at most."""
    exploration_share: float = Field(default=0.1, ge=0, le=1)
    """Part of the budget chosen at random."""
    near_duplicate_bits: int = Field(default=4, ge=0, le=32)
    """Perceptual hashes that differ in at most this many of 64 bits are one picture."""
    seed: int = 0
    """Seed of every draw."""


class Labelling(Part):
    """How scans are labelled and when labels are believed."""

    annotators: int = Field(default=2, ge=1, le=8)
    """People who label one scan independently."""
    schema_version: str = "1"
    """Version of the question that annotators are asked."""
    iou_agreement: float = Field(default=0.5, gt=0, lt=1)
    """Boxes of two annotators at least this alike are the same finding."""
    min_agreement: float = Field(default=0.99, ge=0, le=1)
    """Scans below this agreement go back."""
    trusted_reports: tuple[Literal["ground_truth", "machine", "operator", "aggregate"], ...] = ()
    """Types of Threat Detection Reports that count as accepted without a review."""

    @field_validator("trusted_reports")
    @classmethod
    def _each_once(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(types)) != len(types):
            raise ValueError("a type is named twice")
        return types


class SnapshotRules(Part):
    """What a snapshot of this product line is made of."""

    splits: dict[Literal["train", "val", "test"], float] = {"train": 0.6, "val": 0.15, "test": 0.25}
    """Share of bags in each split; sums to 1."""
    seed: int = 0
    """Seed of the split."""
    min_scans: int = Field(default=1, ge=1)
    """No snapshot below this many scans."""
    min_new_scans: int = Field(default=1, ge=1)
    """No new snapshot for fewer changed scans than this."""
    clean_bag_ratio: float = Field(default=1.0, ge=0)
    """Clean train bags kept for each train bag with a threat, at most."""
    repeat_threshold: float = Field(default=0.1, ge=0, le=1)
    """t of the repeat factor max(1, sqrt(t / f)). Source: LVIS, arXiv:1908.03195, section 4."""
    buckets: int = Field(default=16, ge=1, le=4096)
    """Manifest shards; a bag is always in the same one."""
    split_by: Literal["bag", "site", "scanner", "day", "month"] = "bag"
    """What no two splits share. A bag is never in two; here also the sites, machines, days or months (UTC) of its scans."""
    test_set: int = Field(default=0, ge=0)
    """Version of a frozen test set: bags join it only when this grows. 0: they join it with each snapshot."""
    synthetic_share: float = Field(default=1.0, ge=0, le=1)
    """Synthetic scans among those of train, at most."""

    @model_validator(mode="after")
    def _whole(self) -> SnapshotRules:
        shares = self.splits.values()
        if set(self.splits) != {"train", "val", "test"} or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError("splits must name train, val and test, none below 0, and sum to 1")
        return self

    def said_later(self) -> dict[str, Any]:
        """Rules that came later than others, where they say something."""
        names = ("split_by", "test_set", "synthetic_share")
        return {name: getattr(self, name) for name in names if getattr(self, name) != type(self).model_fields[name].default}


class Training(Part):
    """Which recipe trains a candidate, and what it is given."""

    recipe: str = "rtmdet_tiny"
    """Name of a recipe."""
    planes: tuple[Literal["high", "low", "material", "red", "green", "blue"], ...] = Field(
        default=("high", "low", "material"), min_length=1
    )
    """Input planes, in channel order; colours are for pictures that have no energies, such as those of research sets."""
    size_px: int = Field(default=320, ge=64, le=2048, multiple_of=32)
    """Side of the square the detector sees."""
    iterations: int = Field(default=100, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=8, ge=1)
    """Scans a step."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate; none: the recipe's own."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the network computes in."""
    pretrained: str = ""
    """Weights to begin with where no champion is, `KEY#sha256=DIGEST`."""
    validate_interval: int = Field(default=0, ge=0)
    """Iterations between two looks at the val split; 0: none before the end."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many looks without a better AP50; 0: train to the end."""

    @property
    def needed_planes(self) -> frozenset[str]:
        """Planes that a scan must have to be learned from; `material` follows from two."""
        return frozenset(self.planes) - {"material"} | ({"high", "low"} if "material" in self.planes else set())


class Gate(Part):
    """When a candidate may become champion."""

    target_pfa: float = Field(default=0.1, gt=0, lt=1)
    """Share of clean bags that may alarm at the operating point."""
    min_ap50: float = Field(default=0.3, ge=0, le=1)
    """A first champion needs at least this AP50."""
    max_pd_drop: float = Field(default=0.05, ge=0, le=1)
    """Non-inferiority margin on Pd."""
    min_ap50_gain: float = Field(default=0.0, ge=-1, le=1)
    """A new champion needs at least this gain in AP50."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of every bound."""
    min_threat_bags: int = Field(default=5, ge=1)
    """Fewer test bags with threats than this are too little evidence."""
    min_clean_bags: int = Field(default=5, ge=1)
    """Fewer clean test bags than this are too little evidence."""
    approval: Literal["never", "always"] = "never"
    """Whether a named person must approve."""
    approvers: tuple[str, ...] = ()
    """Who may approve."""

    @model_validator(mode="after")
    def _someone(self) -> Gate:
        if self.approval == "always" and not self.approvers:
            raise ValueError("approval: always needs at least one name in approvers")
        return self


class Release(Part):
    """Where a champion goes."""

    channel: str = Field(default="stable", pattern=r"^[a-z][a-z0-9-]{0,30}$")
    """Channel that devices of this product line follow."""


class Wake(Part):
    """When a product line is due though nothing new arrived."""

    max_age_days: int = Field(default=30, ge=1)
    """A champion older than this is due."""


class ProductLine(Part):
    """One product line: who delivers, what is looked for, how it is labelled, trained, judged and released."""

    product_line: str = Name
    """Key of the product line: the partition of every keyed run."""
    title: str
    """What people call it."""
    taxonomy: str
    """Version of the taxonomy its categories are from."""
    categories: tuple[str, ...] = Field(min_length=1)
    """Categories its detector knows, in label order."""
    scanners: Scanners = Scanners()
    query: str = ""
    """Which of their scans, in the query language; empty: all. Scans that it does not find are neither chosen for labelling nor in snapshots."""
    selection: Selection
    labelling: Labelling = Labelling()
    snapshot: SnapshotRules = SnapshotRules()
    training: Training = Training()
    gate: Gate = Gate()
    release: Release = Release()
    wake: Wake = Wake()

    @field_validator("categories")
    @classmethod
    def _once(cls, categories: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(categories)) != len(categories):
            raise ValueError("a category is named twice")
        return categories

    @field_validator("query")
    @classmethod
    def _a_query(cls, query: str) -> str:
        if query:
            try:
                parse(query, SCANS)
            except QueryWrong as error:
                raise ValueError(f"character {error.at + 1}: {error.said}") from None
        return query

    def covers(self, scanner_id: str) -> bool:
        """Whether scans of `scanner_id` belong to this product line."""
        return any(fnmatchcase(scanner_id, pattern) for pattern in self.scanners.include)

    @property
    def version(self) -> str:
        """The first 12 hex digits of the definition's digest. A field that came later and is empty is no part of it."""
        said = self.model_dump(mode="json")
        if not self.query:
            del said["query"]
        for name in ("split_by", "test_set", "synthetic_share"):
            if name not in self.snapshot.said_later():
                del said["snapshot"][name]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


class _OnceLoader(yaml.SafeLoader):
    """Reads plain values only, and refuses a mapping that has a key twice, of which YAML libraries keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As a mapping. Raises ConstructorError at the second use of a key."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one mapping of plain values. Raises WrongArguments: the message names file, line and what is wrong."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise WrongArguments(f"{path} cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise WrongArguments(f"{path} is not valid YAML: it is nested too deeply.") from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise WrongArguments(f"{path} is not valid YAML{where}: {problem}.") from None
    if not isinstance(content, dict):
        raise WrongArguments(f"{path} must hold one mapping, found {type(content).__name__}.")
    return content


def check(model: type[Checked], content: dict[str, Any], source: str) -> Checked:
    """Check `content` against `model`; `source` is named in the message. Raises WrongArguments."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise WrongArguments(f"{source}: {field}: {first['msg'].removeprefix('Value error, ')}.") from None


def read_product_line(path: Path) -> ProductLine:
    """Read and check one definition.

    Raises:
        WrongArguments: the file is no YAML or no product line; the message names file, field and what is wrong.
    """
    return check(ProductLine, read_yaml(path), str(path))
