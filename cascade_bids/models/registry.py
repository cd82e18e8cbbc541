"""The architectures, by the names that cards use."""

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, Self, TypeVar

from torch import nn

from cascade_bids.models import architectures


class Architecture(nn.Module):
    """A network that cards can name."""

    card_name: ClassVar[str]
    """The name by which cards call it."""
    stored_in_half_precision: ClassVar[bool] = False
    """Whether its weights are stored as float16."""
    arguments: dict[str, Any]
    """What it was created with, as cards state it."""

    @classmethod
    def create(cls, **arguments: Any) -> Self:
        """Build a network that remembers what it was built with."""
        network = cls(**arguments)
        network.arguments = arguments
        return network


ARCHITECTURES: dict[str, type[Architecture]] = {}
"""Every registered architecture."""

Network = TypeVar("Network", bound=Architecture)


def register(card_name: str) -> Callable[[type[Network]], type[Network]]:
    """Return a decorator that makes an architecture known by the name that cards use."""

    def add(network: type[Network]) -> type[Network]:
        network.card_name = card_name
        ARCHITECTURES[card_name] = network
        return network

    return add


def find_architecture(card_name: str) -> type[Architecture]:
    """Return an architecture by the name that cards use.

    Raises
    ------
    KeyError
        When there is none of that name.
    """
    _import_all()
    return ARCHITECTURES[card_name]


@cache
def _import_all() -> None:
    """Import every file of `architectures`, so that a new one need not be listed anywhere."""
    for module in pkgutil.iter_modules(architectures.__path__):
        import_module(f"{architectures.__name__}.{module.name}")
