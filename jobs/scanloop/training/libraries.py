"""Import the heavy training libraries once, quietly: they print and warn on standard output and about themselves."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Drop what the libraries print (about parts that are not installed) and warn about (their own future); mmengine logs errors only."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mmengine.logging import MMLogger

        logger = MMLogger.get_current_instance()
        before = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)


def import_mmdet() -> None:
    """Import mmdet's models, register ours, and make mmdet the default scope."""
    with quietly():
        import mmdet.models  # noqa: F401  registers what recipes name
        from mmengine.registry import init_default_scope

        import scanloop.training.averaging
        import scanloop.training.heads
        import scanloop.training.precision  # noqa: F401  these register what is ours
    init_default_scope("mmdet")
