"""What stands where, as text."""

from __future__ import annotations

from edgevlm.scene_text import NOTHING, SceneThing, place_of, scene_text


def thing(
    name: str | None, left: float, top: float, side: float = 0.2, colour: str | None = None
) -> SceneThing:
    return SceneThing(
        name=name, colour=colour, box_xyxy=(left, top, left + side, top + side), area=side * side
    )


def test_nothing_is_said_of_nothing():
    assert scene_text([]) == NOTHING


def test_one_thing_is_told_with_its_colour_and_place():
    said = scene_text([thing("fox", 0.0, 0.0, colour="red")])
    assert said == "Seen: red fox (top left). Count: fox 1, in all 1."


def test_a_colour_that_is_in_the_name_is_not_said_twice():
    assert "red red" not in scene_text([thing("red fox", 0.0, 0.0, colour="red")])


def test_several_are_ordered_across_down_and_by_size_and_counted():
    things = [
        thing("banana", 0.7, 0.1),
        thing("fox", 0.1, 0.6, side=0.3),
        thing("banana", 0.4, 0.4, side=0.1),
    ]
    assert scene_text(things) == (
        "Seen: fox (bottom left), banana (centre), banana (top right). "
        "Top to bottom: banana, fox. Largest first: fox, banana. "
        "Count: fox 1, banana 2, in all 3."
    )


def test_what_has_no_name_is_something():
    assert scene_text([thing(None, 0.4, 0.4)]) == (
        "Seen: something (centre). Count: something 1, in all 1."
    )


def test_places_are_thirds_of_the_picture():
    assert [place_of((x, 0.5)) for x in (0.0, 0.34, 1.0)] == ["left", "centre", "right"]
    assert [place_of((0.5, y)) for y in (0.1, 0.5, 0.9)] == ["top", "centre", "bottom"]
    assert place_of((0.9, 0.1)) == "top right"
