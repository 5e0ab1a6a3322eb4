"""Tasks by name, for those who would rather not word an instruction."""

from __future__ import annotations

from typing import NamedTuple

from ._qembed_q import tasks
from .errors import OptionError


class Task(NamedTuple):
    """A kind of work, and the instruction for it."""

    name: str
    #: Other names for it, among them those of other programs.
    aliases: list[str]
    #: ``None`` for documents, which have no instruction.
    instruction: str | None
    #: Which texts it is for.
    when: str
    #: How many dimensions are usual for it.
    dimensions: int


#: All of them.
TASKS = [Task(*fields) for fields in tasks()]


def named(name: str) -> Task:
    """The task of that name, in whatever case.

    Raises OptionError where there is none.
    """
    for task in TASKS:
        if name.lower() in (task.name, *task.aliases):
            return task
    raise OptionError(f"no task is called {name!r}; there are {', '.join(task.name for task in TASKS)}")
