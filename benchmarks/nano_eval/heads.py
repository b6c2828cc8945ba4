"""What the encoder's heads find in pictures whose every pixel is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.anomaly import interval
from edgevlm.export.nano_data.picture import Picture, SeenThing
from edgevlm.export.nano_data.questions import answers_to
from edgevlm.runtime.device.evaluation.calibration import Bin, bins
from edgevlm.runtime.device.evaluation.share import Share
from edgevlm.runtime.model.vlm import Vlm

BACKGROUND = "background"
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over pictures, with its 95 % interval (bootstrap over pictures)."""

    value: float
    low: float
    high: float
    of: int


def mean(values: Sequence[float]) -> Mean:
    """Of at least one value, one for each picture."""
    each = np.array(values)
    low, high = interval(lambda chosen: float(each[chosen].mean()), len(each))
    return Mean(value=float(each.mean()), low=low, high=high, of=len(each))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmented:
    """Overlaps of label maps.

    Args:
        everything: mean over the labels of a picture, the background among them.
        things: without the background.
        crowded: as ``everything``, where labels of things that are not there are chosen among too.
    """

    everything: Mean
    things: Mean
    crowded: Mean


def segmented(
    model: Vlm, pictures: Sequence[Picture], vocabulary: Sequence[str], absent: int = 10
) -> Segmented:
    """Label every pixel of pictures with the names of what is there, and the background.

    Args:
        model: a bundle that segments.
        pictures: with at least one thing each.
        vocabulary: names to choose absent labels from, beginning anywhere.
        absent: labels more in the crowded case.
    """
    everything, things, crowded = [], [], []
    for number, picture in enumerate(pictures):
        names = list(dict.fromkeys(thing.name for thing in picture.things))
        labels = [BACKGROUND, *names]
        shown = {n for thing in picture.things for n in answers_to(thing.name)}
        others = [n for n in vocabulary if not answers_to(n) & shown]
        start = number * absent % max(1, len(others))
        more = list(dict.fromkeys(others[start : start + absent]))
        seen = model.encode(picture.image_rgb)
        each = _overlaps(model.segment(seen, labels).label_map, picture, names)
        everything.append(float(np.mean(each)))
        things.append(float(np.mean(each[1:])))
        each = _overlaps(model.segment(seen, labels + more).label_map, picture, names)
        crowded.append(float(np.mean(each)))
    return Segmented(everything=mean(everything), things=mean(things), crowded=mean(crowded))


def _overlaps(found: NDArray[np.int64], picture: Picture, names: Sequence[str]) -> list[float]:
    """Of the background and every name."""
    truth = np.zeros(found.shape, np.int64)
    for thing in picture.things:
        truth[thing.mask] = 1 + names.index(thing.name)
    return [mask_overlap(found == n, truth == n) for n in range(len(names) + 1)]


def mask_overlap(a: Mask, b: Mask) -> float:
    """Intersection over union; 1 of two empty masks."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else 1.0


def prompted(model: Vlm, pictures: Sequence[Picture]) -> tuple[Mean, Mean]:
    """Overlap of the masks that a point in every thing, and its box, give.

    Returns:
        of points, of boxes: mean over the things of a picture.
    """
    by_point: list[float] = []
    by_box: list[float] = []
    for picture in pictures:
        seen = model.encode(picture.image_rgb)
        points = [[_inmost(thing)] for thing in picture.things]
        boxes = [thing.box_xyxy for thing in picture.things]
        for prompts, overlaps in (({"points": points}, by_point), ({"boxes": boxes}, by_box)):
            found = model.masks(seen, several=False, **prompts).best()
            each = [mask_overlap(m, t.mask) for m, t in zip(found, picture.things, strict=True)]
            overlaps.append(float(np.mean(each)))
    return mean(by_point), mean(by_box)


def _inmost(thing: SeenThing) -> tuple[float, float]:
    """The pixel that is farthest from the thing's edge, x and y."""
    padded = np.pad(thing.mask.astype(np.uint8), 1)
    y, x = np.unravel_index(cv2.distanceTransform(padded, cv2.DIST_L2, 5).argmax(), padded.shape)
    return float(x) - 0.5, float(y) - 0.5


def classified(
    model: Vlm, pictures: Sequence[Picture], labels: Sequence[str]
) -> tuple[Share, list[Bin]]:
    """Choose the name of the one thing of every picture among many.

    Returns:
        how often the best label names it, and how sure it was.
    """
    right, sure = [], []
    for picture in pictures:
        label, probability = model.classify(picture.image_rgb, labels)[0]
        right.append(label in answers_to(picture.things[0].name))
        sure.append(probability)
    return Share(sum(right), len(right)), bins(sure, right)


def same_classes(model: Vlm, pictures: Sequence[NDArray[np.uint8]]) -> Share:
    """How often the bundle's best ImageNet class is that of the encoder's published weights.

    Both get the picture as the bundle prepares it; the weights run in plain numpy.
    """
    from edgevlm.export.nano import efficientnet, packages
    from edgevlm.export.reference.efficientnet import forward
    from edgevlm.export.torch_legacy import read_state_dict

    net = efficientnet.from_state_dict(read_state_dict(packages.ENCODER.locate()))
    same = 0
    for picture in pictures:
        seen = model.encode(picture)
        features = forward(net, seen.pixels[0])[-1]
        scores = net.classifier @ features.mean((1, 2)) + net.classifier_bias
        same += int(scores.argmax()) == int(seen.outputs["class_probabilities"][0].argmax())
    return Share(same, len(pictures))
