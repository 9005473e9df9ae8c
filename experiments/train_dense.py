"""Trains encoders with a light decoder to find salient objects, each under a padding mode.

With and without padding on the images and masks of ECSSD, the first 640 to train on, the others to
test on:

    python -m experiments.train_dense --images=ECSSD/images --masks=ECSSD/masks --num_train=640 \\
        --paddings=zeros,valid,reflect,circular --seeds=0,1,2

The encoders then go to the other programs as
`--weights=runs/train_dense/{encoder}-{padding}-seed0/weights.safetensors`.
"""

from experiments import dense_flags
from experiments.program import guarded
from posjax import training

if __name__ == "__main__":
    dense_flags.adapt()
    guarded(lambda: training.run(dense_flags.settings("train_dense"), training.MASKS))
