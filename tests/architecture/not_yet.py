"""What is known to be against the rules of the house, and is being mended. It ends empty, and then goes."""

import os
import re
from pathlib import Path

KNOWN = set(Path(__file__).with_name("not_yet.txt").read_text(encoding="utf-8").splitlines())
"""One offence a line, without its numbers."""


def but_known(offences) -> list[str]:
    """The offences that are not known."""
    offences = sorted(offences)
    if "SHOW_OFFENCES" in os.environ:
        with Path(os.environ["SHOW_OFFENCES"]).open("a", encoding="utf-8") as file:
            file.writelines(f"{one}\n" for one in offences)
    return [one for one in offences if re.sub(r":?( line)? ?[0-9]+( lines)?", "", one) not in KNOWN]
