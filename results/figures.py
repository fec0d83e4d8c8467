"""Numbers as every table prints them: percent with two decimals. Knows neither tables nor formats."""

import math

MINUS = "−"


def percent(value: float) -> str:
    """A share of 1 in percent; nothing where it is undefined."""
    return "" if math.isnan(value) else f"{100 * value:.2f}"


def signed(points: float, decimals: int = 2) -> str:
    """Points with their sign; what rounds to nothing has none."""
    text = f"{points:+.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", MINUS)
