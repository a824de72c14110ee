"""The error of a template that cannot be saved, and where a position of a template is."""

from __future__ import annotations


class TemplateError(ValueError):
    """The template means nothing. `line` and `column` count from 1, in characters of the author's own text."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"{message} (line {line}, column {column})")
        self.message = message
        self.line = line
        self.column = column

    @classmethod
    def at(cls, message: str, source: str, index: int) -> TemplateError:
        return cls(message, *line_and_column(source, index))


def line_and_column(source: str, index: int) -> tuple[int, int]:
    before = source[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1
