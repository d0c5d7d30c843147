"""Text as terminals and files can hold it."""

import io

import pytest
from rich.console import Console

from descend.printable import one_line, preformatted, printable, say, wrapped

STEERING = [*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x202E, 0x2066, 0xDCFF]


@pytest.mark.parametrize("code", STEERING)
def test_what_steers_a_terminal_is_spelled_out(code):
    """Controls of both kinds, what turns text round, and what no encoding takes: each can be read, and encoded."""
    shown = printable(f"a{chr(code)}b")
    assert shown.startswith("a\\")
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("unicode_escape", "surrogatepass") == f"a{chr(code)}b"


def test_other_text_stays():
    """Letters of any script, mathematics, spaces that do not break, line feeds and tabs."""
    text = "β₂ᵗ ≈\N{NO-BREAK SPACE}Ünïcödé 漢字 é\n\tindented 🙂"
    assert printable(text) == text


def test_a_name_is_one_line():
    """Breaks of any kind become a space; other spaces stay as they are."""
    assert one_line("  a\r\nb\tc\v d  e\n") == "a b c d  e"


@pytest.mark.parametrize("width", [1, 5, 12, 80])
def test_no_word_is_broken(width):
    """Neither at a hyphen nor where a word is longer than a line; every line that can be is short enough."""
    text = "momentum=0.5..0.99, weight_decay=1e-6..0.1:log and a look-ahead"
    lines = wrapped(text, width, " ")
    assert " ".join(line.strip() for line in lines) == text
    assert all(len(line) <= width or len(line.split()) == 1 for line in lines)


def test_say_leaves_what_fits_and_markup_alone():
    """Two spaces stay two, brackets are no markup, and a long word is not cut off."""
    page = io.StringIO()
    say(Console(file=page, width=20), "[bold]u ← max(u,  v)\n\n" + "x" * 30 + " \x1b[31m")
    assert page.getvalue() == "[bold]u ← max(u,  v)\n\n" + "x" * 30 + "\n\\x1b[31m\n"


def test_html_shows_the_text():
    """What would be markup is text."""
    assert preformatted("<b>\x07 & a\nb") == "<pre>&lt;b&gt;\\x07 &amp; a\nb</pre>"
