"""Numbers as people should read them: a value shows no digit that its error does not support."""

from math import floor, isfinite, log10

MISSING = "–"
INFINITE = "∞"
"""What stands where there is no number."""

ROUNDING = 1e-9
"""Relative errors below this come from the arithmetic of numbers, not from samples."""
LEAST_SHARE = 1e-6
"""Shares below this are shown as a bound."""
_LARGEST = 9
"""From this power of ten on numbers are written with it."""


def with_error(value: float | None, error: float | None) -> str:
    """Return ``value ± error`` with both rounded to the error's leading digit, or to two if that digit is 1.

    Parameters
    ----------
    value, error
        Any unit. Without a usable error (None, zero, not finite, or nothing but rounding, as of a single effective
        sample) the value stands alone with four significant digits. Errors from 1e9 on are written as powers of ten.
    """
    if value is None or not isfinite(value):
        return MISSING
    if error is None or not isfinite(error) or error <= ROUNDING * abs(value):
        return plain(value)
    exponent, places = floor(log10(error)), _decimal_places(error)
    if exponent >= _LARGEST:
        # One digit of a value below its error, so that its size is seen.
        digits = max(floor(log10(abs(value) or 1.0)) + places, 0)
        return f"{value:.{digits}e} ± {error:.{exponent + places}e}".replace("-", "−")
    if places <= 0:
        scale = 10**-places
        return f"{grouped(round(value / scale) * scale)} ± {grouped(round(error / scale) * scale)}"
    return f"{fixed(value, places)} ± {error:.{places}f}"


def plain(value: float | None, digits: int = 4) -> str:
    """Return a number with so many significant digits, without trailing zeros."""
    if value is None or not isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    exponent = floor(log10(abs(value)))
    if exponent >= digits - 1:
        return grouped(round(value)) if exponent < _LARGEST else f"{value:.{digits - 1}e}"
    if exponent < -4:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    text = fixed(value, digits - 1 - exponent)
    return text.rstrip("0").rstrip(".") if "." in text else text


def grouped(value: float) -> str:
    """Return a whole number, from five digits on in groups of three divided by thin spaces."""
    return fixed(value, 0) if abs(value) < 10_000 else f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage with two or three significant digits."""
    if fraction is None or not isfinite(fraction):
        return MISSING
    if 0 < fraction < LEAST_SHARE:
        return f"< {100 * LEAST_SHARE:.4f} %"
    return f"{plain(100 * fraction, 3 if fraction >= 0.1 else 2)} %"


def seconds(value: float | None) -> str:
    """Return a duration in the unit a person would choose."""
    if value is None or not isfinite(value):
        return MISSING
    if value < 120:
        return f"{plain(value, 3)} s"
    if value < 7200:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"


def _decimal_places(error: float) -> int:
    """Decimal places that keep one digit of the error, two where that digit is a 1; 0.096 becomes 0.10."""
    exponent = floor(log10(error))
    leading = error / 10**exponent
    return 1 - exponent if leading < 1.95 else -exponent


def fixed(value: float, places: int) -> str:
    """Return a number with so many decimal places, and no sign where they are all zero."""
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")
