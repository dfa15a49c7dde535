"""Train a detector on a snapshot, and use it: recipes, preprocessing, the network, post-processing, tracking.

`preprocess`, `postprocess` and `detections` need NumPy and OpenCV only, because a device runs them too.
"""
