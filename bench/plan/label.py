"""What a method is called in tables, charts and messages."""

from __future__ import annotations

import json


def method_label(method: str, params: str, accept: str = "always", use: str = "jump") -> str:
    """Name a method with what parameters it was asked to have; defaults add nothing.

    Parameters
    ----------
    method : str
    params : str
        As JSON.
    accept : str
        In the loop tier, which jumps are taken.
    use : str
        In the loop tier, what forecasts are for.

    Examples
    --------
    >>> method_label("lfd2-grad", '{"weight": 10.0}'), method_label("ols-line", "{}", "if-better")
    ('lfd2-grad(weight=10.0)', 'ols-line(if-better)')
    """
    inside = [f"{key}={value}" for key, value in sorted(json.loads(params).items())]
    inside += [accept] * (accept != "always") + [use] * (use != "jump")
    return f"{method}({', '.join(inside)})" if inside else method
