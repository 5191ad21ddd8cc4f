"""What is wrong in a configuration file, and where."""

from __future__ import annotations

import dataclasses

MAX_TOLD = 10
"""Problems in the text of an error, which is a line of the log and a part of /readyz."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    line: from 1, 0 = unknown. where: path inside the document, e.g. "models[2].service".
    """

    where: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        """One sentence, e.g. `line 7: models[2].service: is missing`."""
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.where}: {self.message}" if self.where else f"{place}{self.message}"


class ConfigError(Exception):
    """A file that cannot be used; `problems` has everything that is wrong in it, its text the first few."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        told = [str(problem) for problem in problems[:MAX_TOLD]]
        if len(problems) > MAX_TOLD:
            told.append(f"and {len(problems) - MAX_TOLD} more")
        super().__init__(f"{source}: " + "; ".join(told))
        self.source = source
        self.problems = problems
