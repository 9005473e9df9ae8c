"""Which stages carry position? The paper's Table 3.

Every stage by itself, and all together. With no flags: a random VGG-11 on generated images,
offline, in minutes on two cores.
"""

from experiments.program import main

_COMMON = {"paddings": ("zeros",), "maps": ("H", "G"), "stages": ("each", "all")}

if __name__ == "__main__":
    main("stages", "Position by stage", paper=_COMMON, demonstration=_COMMON)
