"""The kinds of array that pass between rooms, each named once.

Arrays travel as `xarray.DataArray`, so their axes travel with them. The dims are bioimage.io's, in
bioimage.io's order; ``z`` is there for volumes only.

| kind          | dims               | dtype, range                                      |
|---------------|--------------------|---------------------------------------------------|
| image         | channel (z) y x    | any number type; the values that the forest sees  |
| scribbles     | (z) y x            | uint8, 0 = unlabelled, 1…n = class                |
| features      | feature (z) y x    | float32                                           |
| probabilities | channel (z) y x    | float32 in [0, 1], sums to 1 over the classes     |
| enhanced      | channel (z) y x    | float32 in [0, 1]: foreground, boundary           |
| pseudo-labels | channel (z) y x    | float32 in [0, 1]: foreground, boundary           |
| weights       | (z) y x            | float32 in [0, 1]                                 |
"""

from typing import Final

CHANNEL: Final = "channel"
FEATURE: Final = "feature"
#: spatial dims in the order in which every array of this project has them
SPACE: Final = ("z", "y", "x")

#: ilastik's Trainable Domain Adaptation lists the models that carry this tag
ENHANCER_TAG: Final = "shallow2deep"
#: what an enhancer and a segmentor give, in this order
OUTPUT_CHANNELS: Final = ("foreground", "boundary")
