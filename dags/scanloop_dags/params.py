"""The fields of the forms that people fill in. Airflow checks what is entered against each schema before a run starts."""

from __future__ import annotations

from airflow.sdk import Param

KEY = r"^[a-z][a-z0-9_]{0,62}$"

SNAPSHOT = Param(
    None,
    type=["null", "string"],
    pattern=r"^[0-9a-f]{64}$",
    title="Snapshot",
    description="Id of the snapshot to train on. Empty: the newest of the product line.",
)
RECIPES = ("rtmdet_tiny", "rtmdet_s", "rtmdet_m", "faster_rcnn_r18", "faster_rcnn_r50", "dino_r18", "dino_r50")
"""What the job can be asked for; a test holds this and the job's own table together."""
RECIPE = Param(
    None,
    type=["null", "string"],
    enum=[None, *RECIPES],
    title="Recipe",
    description="Name of the training recipe. Empty: the one that the product line's definition names.",
)
CHANGES = Param(
    [],
    type=["array", "null"],
    items={"type": "string", "pattern": r"^[a-z][a-z0-9_]{0,62}=[^\n]{0,1100}$(?!\n)"},
    maxItems=20,
    title="Changes",
    description="Values of the recipe to change, one a line: iterations=400",
)
GPUS = Param(
    None,
    type=["null", "integer"],
    minimum=0,
    maximum=16,
    title="GPUs",
    description="GPUs on each node. Empty: one, where the deployment has any.",
)
NODES = Param(
    None,
    type=["null", "integer"],
    minimum=1,
    maximum=64,
    title="Nodes",
    description="Nodes that train together. Empty: one.",
)
CATEGORY = Param(
    "",
    type="string",
    pattern=KEY,
    title="Category",
    description="Id of the new class of threat, as in the taxonomy.",
)
PRODUCT_LINES = Param(
    [],
    type="array",
    items={"type": "string", "pattern": KEY},
    minItems=1,
    maxItems=100,
    title="Product lines",
    description="Keys of the product lines to search, one a line.",
)
SINCE = Param(
    None,
    type=["null", "string"],
    format="date",
    title="Since",
    description="First day of acquisition to search. Empty: from the beginning.",
)
UNTIL = Param(
    None,
    type=["null", "string"],
    format="date",
    title="Until",
    description="Scans acquired before this day. Empty: until now.",
)
BUDGET = Param(
    None,
    type=["null", "integer"],
    minimum=1,
    maximum=100_000,
    title="Budget",
    description="At most so many scans are given to annotators, for each product line. Empty: as its definition says.",
)
