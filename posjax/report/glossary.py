"""The texts at the head of a report: what readouts do, and what its terms mean."""

from collections.abc import Sequence

from posjax.results import Result

_INTRODUCTION = (
    "A readout is trained to draw a position map, the same one for every image, from the features"
    " of a frozen encoder. On images that it has not seen it succeeds as far as the features carry"
    " their position."
)
_TERMS = {
    "SPC": "Spearman correlation of the predicted and the true map over all pixels of an image,"
    " from −1 to 1: 1 where the order of all values is right, 0 where it is unrelated.",
    "MAE": "Mean absolute error over the pixels of an image; maps range from 0 to 1. What a good"
    " MAE is depends on the map: compare it with that of the best constant prediction, the map's"
    " median.",
    "skill": "1 − MAE / MAE of the best constant: 1 is perfect, 0 no better than that constant,"
    " below 0 worse.",
    "[a, b]": "95 % interval of a bootstrap that draws seeds, and images (the same ones for all"
    " seeds), with replacement. From one seed it shows the spread over images alone, from one image"
    " that over seeds alone. Few seeds make it rough. It does not cover other training images.",
    "seed": "Draws the readout's initial weights, and those of an encoder with random weights.",
    "control": "What a result is compared with: pixels (readouts on the image itself), random (the"
    " encoder with random weights), roll (images rolled circularly at random, in training and in"
    " testing, so that their content carries no position); and the same readouts with other"
    " targets: shuffled map (the map's pixels in a random order), smooth map (a random map with the"
    " map's spectrum), image shuffled maps (another order for every image: the floor).",
    "undefined": "A constant prediction puts the pixels in no order and has no SPC. Such images are"
    " left out of the mean SPC, and their number is given; their MAE counts.",
}

# Where readouts are fitted in closed form, and where seeds do not enter at all.
_RIDGE = (
    "Readouts are linear, one convolution and a bias, and fitted in closed form: no learning rate"
    " and no initial weights enter. Their predictions may leave [0, 1] and are scored as they are."
)
_RIDGE_TERMS = {"seed": "Draws the weights of the encoder; the readouts need none."}
_SEEDLESS_TERMS = {
    "[a, b]": "95 % interval of a bootstrap that draws images with replacement. It does not cover"
    " other training images."
}


def introduction(results: Sequence[Result]) -> tuple[list[str], dict[str, str]]:
    """The paragraphs and the terms that a report of these results begins with."""
    if not any(result.probe.solver == "ridge" for result in results):
        return [_INTRODUCTION], _TERMS
    if any(result.probe.seeded for result in results):
        terms = _TERMS | _RIDGE_TERMS
    else:
        terms = {k: v for k, v in (_TERMS | _SEEDLESS_TERMS).items() if k != "seed"}
    return [_INTRODUCTION, _RIDGE], terms
