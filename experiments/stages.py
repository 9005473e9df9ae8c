"""Which stages carry position? The paper's Table 3.

    python -m experiments.stages

Every stage by itself, and all together. With no flags: a small random VGG on generated images,
offline, in less than a minute on two cores. Expect an SPC that rises from f1 to the last stages.
"""

from experiments.program import main

_COMMON = {"paddings": ("zeros",), "maps": ("H", "G"), "stages": ("each", "all")}

if __name__ == "__main__":
    main("stages", "Position by stage", paper=_COMMON, demo=_COMMON)
