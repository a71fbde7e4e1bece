"""Weight forecasters: one interface, one registry, a module a method."""

from typing import TYPE_CHECKING

from weightcast.datasets.lazily import names_from

if TYPE_CHECKING:
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

_PLACES = {
    "CoordinateForecaster": "forecaster",
    "Forecaster": "forecaster",
    "NetworkForecaster": "forecaster",
    "OneLookForecaster": "forecaster",
    "all_methods": "registry",
    "get_method": "registry",
    "load_plugin": "registry",
    "make_method": "registry",
    "register": "registry",
}
__getattr__ = names_from(__name__, _PLACES)
