"""Figure 1 of the paper, measured: saliency of crops that networks of `train_dense` predict.

A crop is moved over the image; how far do the peak and the centre of mass of the prediction move
with it, relative to the content that both crops show?

    python -m experiments.crop_shift --networks='runs/train_dense/*/network.safetensors' \\
        --images=ECSSD/images --num_train=640

It takes a minute on two cores.
"""

from experiments import flags
from experiments.program import start_program
from posjax.training.saliency import crop_shift

if __name__ == "__main__":
    flags.define(crop_shift.ShiftSettings, {}, {})
    start_program(lambda: crop_shift.run(flags.read(crop_shift.ShiftSettings, "crop_shift")))
