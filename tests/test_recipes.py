"""Recipes: every one of them goes to JSON and back, and values that make no sense are refused by name."""

import json
from dataclasses import asdict

import pytest

from minidl.recipes import CHOICES, RECIPES, Recipe, recipe_from, small


@pytest.mark.parametrize(
    "recipe", [*RECIPES.values(), *map(small, RECIPES)], ids=lambda recipe: f"{recipe.variant} {recipe.width}"
)
def test_to_json_and_back(recipe):
    assert recipe_from(json.loads(json.dumps(asdict(recipe)))) == recipe


@pytest.mark.parametrize("name", list(CHOICES))
def test_a_word_that_is_none_is_refused_and_the_others_are_named(name):
    for word in CHOICES[name]:
        assert getattr(Recipe(**{name: word}), name) == word
    with pytest.raises(ValueError, match=f"{name} must be one of {', '.join(CHOICES[name])}; got 'color'"):
        Recipe(**{name: "color"})


@pytest.mark.parametrize(
    "name, value",
    [("epochs", 0), ("plateau", -1), ("lr", 0.0), ("bias_lr", float("nan")), ("weight_decay", -1.0), ("bias_decay", float("inf")),
     ("momentum", 1.0), ("milestones", (3, 2)), ("conv1_milestones", (0,))],
)  # fmt: skip
def test_a_number_that_makes_no_sense_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}"):
        Recipe(**{name: value})


@pytest.mark.parametrize(
    "fields, message",
    [({"learning_rate": 1}, "learning_rate"), ([1], r"names and values, got \[1\]"), ({"epochs": "many"}, "of the wrong type")],
)
def test_fields_that_no_recipe_has(fields, message):
    with pytest.raises(ValueError, match=message):
        recipe_from(fields)
