"""When a training has learned what it can: a pure rule over what each look at the val split said."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """What the looks so far said. Part of a training's state: a resumed training stops where an unbroken one does."""

    best: float = 0.0
    """Best AP50 so far."""
    best_at: int = 0
    """Iterations done when it was best; 0: never above zero."""
    looks_without_gain: int = 0
    """Looks since then. Not counted before the first success: a network that finds nothing yet has not stopped learning."""

    def after(self, iteration: int, ap50: float) -> Progress:
        """Take in one look."""
        if ap50 > self.best:
            return Progress(ap50, iteration, 0)
        return replace(self, looks_without_gain=self.looks_without_gain + 1) if self.best_at else self

    def is_over(self, patience: int) -> bool:
        """Whether to stop. A patience of 0 never does."""
        return bool(patience) and self.looks_without_gain >= patience
