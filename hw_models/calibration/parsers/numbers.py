"""Numbers as vendor tools print them: counts with thousands marks, times with units, dashes for nothing."""

import re

from hw_models.calibration.parsers.errors import ReportError

#: Nanoseconds per unit of time.
_NS_PER_UNIT = {"ps": 1e-3, "ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}

_COUNT = re.compile(r"\d+|\d{1,3}(?:[, \u00a0\u202f']\d{3})+")
_DECIMAL = re.compile(r"\d+(?:[.,]\d+)?|\.\d+")

#: Words for "the tool does not know" (a loop with a variable bound, an unfinished run).
_UNKNOWN = {"", "undef", "?", "na", "n/a", "none", "null", "inf", "-"}


def count_of(text: str, *, what: str) -> int:
    """Read a non-negative count such as "1526", "53,200" or "-" (nothing, zero).

    Raises:
        ReportError: the text is no count.
    """
    cleaned = text.strip()
    if cleaned == "-":
        return 0
    if not _COUNT.fullmatch(cleaned):
        raise ReportError(
            f"{what} is {text!r}; expected a whole number; synthesise again or correct the report"
        )
    value = int(re.sub(r"\D", "", cleaned))
    if value > 10**12:
        raise ReportError(
            f"{what} is {text[:40]!r}, more than any device holds; correct the report"
        )
    return value


def count_or_none(text: str | None, *, what: str) -> int | None:
    """Read a count that the tool may not know ("undef", "?", "NA")."""
    if text is None or text.strip().lower() in _UNKNOWN:
        return None
    return count_of(text, what=what)


def decimal_of(text: str, *, what: str) -> float:
    """Read a decimal number with a point or a comma.

    Raises:
        ReportError: the text is no such number.
    """
    cleaned = text.strip()
    sign = -1.0 if cleaned.startswith("-") else 1.0
    cleaned = cleaned.lstrip("+-")
    if not _DECIMAL.fullmatch(cleaned):
        raise ReportError(
            f"{what} is {text!r}; expected a number; synthesise again or correct the report"
        )
    value = float(cleaned.replace(",", "."))
    if value > 1e12:
        raise ReportError(
            f"{what} is {text[:40]!r}, more than any report holds; correct the report"
        )
    return sign * value


def period_ns_of(text: str, *, what: str, default_unit: str = "ns") -> float:
    """Read a clock period ("5.00", "4.049 ns", "0.005 us", "200 MHz") in nanoseconds.

    Raises:
        ReportError: no such period, or one that is not above zero.
    """
    match = re.fullmatch(r"\s*([\d.,]+)\s*([A-Za-z]*)\s*", text)
    if not match:
        raise ReportError(
            f"{what} is {text!r}; expected a period such as '5.00 ns'; correct the report"
        )
    value, unit = decimal_of(match[1], what=what), (match[2] or default_unit).lower()
    if unit in ("mhz", "ghz", "khz"):
        if value <= 0:
            raise ReportError(
                f"{what} is {text!r}; expected a frequency above zero; correct the report"
            )
        period = {"khz": 1e6, "mhz": 1e3, "ghz": 1.0}[unit] / value
    elif unit in _NS_PER_UNIT:
        period = value * _NS_PER_UNIT[unit]
    else:
        raise ReportError(
            f"{what} is {text!r} in an unknown unit; expected ns, ps, us or MHz; correct the report"
        )
    if not 0 < period < 1e6:
        raise ReportError(
            f"{what} is {text!r}; expected a clock period above zero; correct the report"
        )
    return period


def uncertainty_ns_of(text: str, period_ns: float, *, what: str) -> float:
    """Read a clock uncertainty in a time unit or as a share of the period ("27%")."""
    if text.strip().endswith("%"):
        return decimal_of(text.strip()[:-1], what=what) / 100.0 * period_ns
    if re.fullmatch(r"\s*0*[.,]?0*\s*[a-z]*\s*", text) and "0" in text:
        return 0.0
    return period_ns_of(text, what=what)
