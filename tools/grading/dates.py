"""The dates in the names of files that Brightspace writes, in the words and the order of its language."""

import re
import unicodedata
from datetime import datetime

MONTHS = (  # how they begin in some languages; marraskuu, in Finnish, could be two, and is not read
    ("jan", "jän", "ene", "gen"), ("feb", "fév"), ("mar", "mär", "mrz", "maa"), ("apr", "avr", "abr"),
    ("may", "mai", "mag", "mei", "maj"), ("jun", "juin", "giu"), ("jul", "juil", "lug"), ("aug", "aoû", "ago"),
    ("sep", "set"), ("oct", "okt", "ott", "out"), ("nov", "marras"), ("dec", "dez", "déc", "dic", "des"),
)  # fmt: skip
DATES = (
    r"(?P<d>\d\d?)(\.|st|nd|rd|th)? ?(de )?(?P<month>[^\W\d]+)\.?,? (de )?(?P<y>\d{4})",
    r"(?P<month>[^\W\d]+)\.? (?P<d>\d\d?)(st|nd|rd|th)?,? (?P<y>\d{4})",
    r"(?P<y>\d{4})-(?P<month>\d\d?)-(?P<d>\d\d?)",
    r"(?P<d>\d\d?)\.(?P<month>\d\d?)\.(?P<y>\d{4})",
)
CLOCK = r"(,? (um |at |à )?(?P<h>\d\d?)[:._h ]?(?P<min>\d\d)(:\d\d)?( uhr)?( ?(?P<half>[ap])\.? ?m\.?)?)?"


def moment(text: str) -> str:
    """A date as people write it, "3 November, 2026 1117 PM", as text that sorts; empty if there is any doubt."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    match = next(filter(None, (re.fullmatch(date + CLOCK, text) for date in DATES)), None)
    if not match:
        return ""
    month = match["month"].lstrip("0")
    months = [str(n) for n, names in enumerate(MONTHS, 1) if month == str(n) or month.startswith(names)]
    half = f" {match['half']}m" if match["half"] else ""
    day = f"{match['y']}-{'/'.join(months)}-{match['d']} {match['h'] or 0}:{match['min'] or '00'}{half}"
    try:
        return datetime.strptime(day, "%Y-%m-%d %I:%M %p" if half else "%Y-%m-%d %H:%M").isoformat(" ")
    except ValueError:
        return ""
