"""Does an encoder without padding carry less position because its maps are smaller?

    python -m experiments.matched_valid

Beside the paper's comparison stand two on equal terms: padded maps cropped to the responses that
unpadded ones have too, and images within their surroundings, so that unpadded maps are as large as
padded ones. With no flags: a small random VGG on generated images, offline, in a minute on two
cores. Expect zeros ahead on the enlarged images, and no difference on cropped maps.
"""

from experiments.program import main

_COMMON = {
    "paddings": (
        "zeros",
        "valid",
        "zeros@cropped",
        "valid@cropped",
        "zeros@enlarged",
        "valid@enlarged",
    )
}

if __name__ == "__main__":
    main("matched_valid", "Without padding, on equal terms", paper=_COMMON, demo=_COMMON)
