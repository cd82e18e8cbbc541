"""Recipes of the methods that can be trained, one file for each system."""

import pkgutil
from importlib import import_module

from cascade_bids.errors import UsageError
from cascade_bids.models.card import MethodCard
from cascade_bids.training.recipes.recipe import Recipe, StageRecipe

__all__ = ["RECIPES", "Recipe", "StageRecipe", "find_recipe", "find_recipe_of"]

RECIPES: dict[str, Recipe] = {
    name: recipe
    for module in pkgutil.iter_modules(__path__)
    for name, recipe in getattr(import_module(f"{__name__}.{module.name}"), "RECIPES", {}).items()
}
"""The methods that can be trained, by name: ``RECIPES`` of every file in this folder."""


def find_recipe(method: str) -> Recipe:
    """Return the recipe of a method.

    Raises
    ------
    UsageError
        When there is none; the message lists those that there are.
    """
    if method not in RECIPES:
        raise UsageError(f"no method named {method!r} to train; there are: {', '.join(RECIPES)}")
    return RECIPES[method]


def find_recipe_of(card: MethodCard) -> Recipe | None:
    """Return the recipe by which the networks of a card can be trained; None without one."""
    recipes = (one for one in RECIPES.values() if card.count_stages(one.architecture))
    return next(recipes, None)
