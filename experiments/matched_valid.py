"""Does an encoder without padding tell less because its maps are smaller?

Beside the paper's comparison stand two on equal terms: padded maps cropped to the responses that
unpadded ones have too, and images within their surroundings, so that unpadded maps are as large as
padded ones. With no flags: a random VGG-11 on generated images, offline, in minutes on two cores.
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
    main("matched_valid", "Without padding, on equal terms", paper=_COMMON, demonstration=_COMMON)
