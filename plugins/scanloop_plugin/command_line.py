"""From a job and its options to an argument list. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from scanloop_plugin.job_spec import JobSpec

Scalar = str | int | float
OptionValue = Scalar | bool | Sequence[Scalar] | None

_OPTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def command_line(job: JobSpec, options: Mapping[str, OptionValue]) -> list[str]:
    """The words after `scanloop`: the job's command, then `--name=value` for each option.

    None, False and the empty string leave an option out, True writes a flag, a list repeats it. A value is always in one word with its
    option, so that whatever a person typed into a form can never become an option or a command of its own.

    Raises:
        ValueError: a name is no option's name, or a value holds a NUL.
        TypeError: a value is neither text nor a number.
    """
    words = list(job.command)
    for name, value in options.items():
        if not _OPTION.fullmatch(name):
            raise ValueError(f"Not an option's name: {name!r}.")
        if isinstance(value, bool):
            words += [f"--{name}"] if value else []
        else:
            words += [f"--{name}={text}" for text in _texts(name, value)]
    return words


def _texts(name: str, value: OptionValue) -> Iterator[str]:
    many = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else (value,)
    for one in many:
        if one is None or one == "":
            continue
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            raise TypeError(f"Option --{name}: expected text or a number, found {type(one).__name__}.")
        text = str(one)
        if "\x00" in text:
            raise ValueError(f"Option --{name}: a value cannot hold a NUL.")
        yield text


def part_of(job: JobSpec, options: Mapping[str, OptionValue]) -> str:
    """The part that the receipt of this job names, empty for a job that is one whole."""
    if job.part_option is None:
        return ""
    part = options.get(job.part_option)
    if not isinstance(part, str) or not part:
        raise ValueError(f"Job {job.name} needs a value for --{job.part_option}.")
    return part
