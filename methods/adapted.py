"""Forecaster classes that are made for a name, and found again by it in other processes."""

from __future__ import annotations

import copyreg
import inspect
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, cast

from weightcast.methods.forecaster import CoordinateForecaster
from weightcast.methods.registry import get_method

if TYPE_CHECKING:
    from weightcast.methods.adapter_name import AdapterName


class AdaptedType(type):
    """The type of classes made for a name; a pickle of one holds the name."""


class Adapter(CoordinateForecaster, metaclass=AdaptedType):
    """Base of the adapters.

    Attributes
    ----------
    spec : AdapterName or None
        The name that a class was made for; None in the adapters themselves.
    estimator_class : type
        The library's class.
    depends_on : tuple of str
        What results depend on beside our code: the name and the library's version.
    """

    spec: ClassVar[AdapterName | None] = None
    estimator_class: ClassVar[Any] = None
    depends_on: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def made_for(cls, spec: AdapterName, estimator_class: Any, package: str) -> type[Adapter]:
        """Make the class of a name.

        Parameters
        ----------
        spec : AdapterName
        estimator_class : type
        package : str
            The library, as it is installed by.
        """
        text = (estimator_class.__doc__ or "").strip()
        home = f"{package} {version(package)}"
        where = f"{estimator_class.__module__}.{estimator_class.__name__}"
        made = AdaptedType(
            cls.__name__,
            (cls,),
            {
                "spec": spec,
                "estimator_class": estimator_class,
                "depends_on": (str(spec), home),
                "_tags": {"reference": f"{home}, {where}", "implementation": "library"}
                | ({"random": True} if "random_state" in param_names(estimator_class) else {}),
                "__doc__": f"{estimator_class.__name__}: {text.splitlines()[0] if text else where}",
                "__module__": cls.__module__,
            },
        )
        return cast("type[Adapter]", made)

    def estimator(self, seed: int) -> Any:
        """Make the library's object, seeded where it can be and the name does not."""
        if self.spec is None:
            raise TypeError(f"{type(self).__name__} has no name; ask get_method for one")
        params = dict(self.spec.params)
        if "random_state" in param_names(self.estimator_class):
            params.setdefault("random_state", seed)
        return self.estimator_class(**params)


def param_names(estimator_class: Any) -> list[str]:
    """List what a library's class takes."""
    return list(inspect.signature(estimator_class).parameters)


def _by_name(cls: AdaptedType) -> Any:
    spec: AdapterName | None = getattr(cls, "spec", None)
    return cls.__qualname__ if spec is None else (get_method, (str(spec),))


copyreg.pickle(AdaptedType, _by_name)
