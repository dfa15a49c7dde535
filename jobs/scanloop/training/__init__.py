"""Train a detector on a snapshot, and use it: recipes, preprocessing, the network, post-processing, tracking.

`preprocess`, `postprocess` and `detections` need NumPy and OpenCV only, because a device runs them too.
"""

import os

# Threads of torch that wait for each other must sleep: by default they spin, and on a machine that also does something else a step then takes
# ten times as long (15.6 s against 1.5 s, measured at a load of 8 on 2 cores). OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
