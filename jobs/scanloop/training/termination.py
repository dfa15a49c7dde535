"""What a training does when it is asked to end: finish the step, keep a state, and go.

A pod that is evicted or preempted gets SIGTERM and half a minute; what it has learned since its last state would be lost without need.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)
ENDED = 128 + signal.SIGTERM
"""Exit code of a process that SIGTERM has ended, as shells give it."""
STEP_WITHIN_S = 1.5
"""Time that the step has to end. After it the process ends without a state: a job that is no pod has 3 s in all, and its experiment is to
be closed too."""


class Termination:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.is_asked = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Inside, SIGTERM is noted, and answered at the end of the step; afterwards it does what it did before.

        A thread beside the main one hears no signals, and leaves them to it.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note), signal.signal(signal.SIGALRM, self._give_up)
        try:
            yield
        finally:
            self.wait_no_more()
            signal.signal(signal.SIGALRM, before[1])
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self.is_asked else before[0])

    def wait_no_more(self) -> None:
        """The step has ended in time."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def obey(self) -> NoReturn:
        """End the process through its `finally` blocks."""
        self.wait_no_more()
        raise SystemExit(ENDED)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.is_asked:
            self.is_asked = True
            log.warning("Asked to end: after this step, or in %.1f s.", STEP_WITHIN_S)
            signal.setitimer(signal.ITIMER_REAL, STEP_WITHIN_S)

    def _give_up(self, number: int, frame: FrameType | None) -> None:
        self.obey()
