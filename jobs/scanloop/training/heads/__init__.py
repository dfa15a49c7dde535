"""Heads that know which categories somebody looked for: a scan is a negative only for those.

Importing this package registers them with mmdet, so it is imported by `libraries.import_mmdet` only.
"""

from scanloop.training.heads import dino, rtmdet, two_stage  # noqa: F401  registers what recipes name
