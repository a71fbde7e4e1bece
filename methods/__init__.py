"""Weight forecasters: one interface, one registry, a module a method."""

from weightcast.methods.forecaster import (
    CoordinateForecaster,
    Forecaster,
    NetworkForecaster,
    OneLookForecaster,
)
from weightcast.methods.registry import (
    all_methods,
    get_method,
    load_plugin,
    make_method,
    register,
)

__all__ = [
    "CoordinateForecaster",
    "Forecaster",
    "NetworkForecaster",
    "OneLookForecaster",
    "all_methods",
    "get_method",
    "load_plugin",
    "make_method",
    "register",
]
