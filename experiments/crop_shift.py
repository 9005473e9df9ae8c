"""Figure 1 of the paper, measured: saliency of crops that networks of `train_dense` predict.

A crop is moved over the image; how far do the peak and the centre of mass of the prediction move
with it, relative to the content that both crops show?

    python -m experiments.crop_shift --networks='runs/train_dense/*/network.safetensors' \\
        --images=ECSSD/images --num_train=640
"""

from experiments import crop_flags
from experiments.program import guarded
from posjax.training import crop_shift

if __name__ == "__main__":
    crop_flags.adapt()
    guarded(lambda: crop_shift.run(crop_flags.settings("crop_shift")))
