"""Text as terminals and files can hold it: characters that would steer a terminal are spelled out."""

from __future__ import annotations

import html
import re
import textwrap
from typing import Any

__all__ = ["one_line", "preformatted", "printable", "say", "wrapped"]

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed: escapes that colour, move, or rename a window
    "\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"  # breaks of lines, and what turns the text after it round
    "\ud800-\udfff]"  # bytes of a file's name that are no text: no encoding takes them
)


def printable(text: str) -> str:
    r"""The text with each character that steers a terminal spelled out; line feeds and tabs stay.

    >>> printable("\x1b[31mred\n")
    '\\x1b[31mred\n'
    """
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    r"""The same on one line, as names are.

    >>> one_line("two\nlines")
    'two lines'
    """
    return printable(re.sub(r"\s*[\n\r\t\v\f]+\s*", " ", text).strip())


def preformatted(text: str) -> str:
    """A text as HTML that shows it as a terminal would."""
    return f"<pre>{html.escape(printable(text))}</pre>"


def say(console: Any, text: str, **style: Any) -> None:
    """Print a text on a rich console: as it is, wrapped between its words, lines that fit left alone."""
    for line in printable(text).split("\n"):
        for part in wrapped(line, console.width) if len(line) > console.width else [line]:
            console.print(part, highlight=False, markup=False, soft_wrap=True, **style)


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a text, broken between its words only."""
    return textwrap.wrap(
        text,
        max(1, width),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
