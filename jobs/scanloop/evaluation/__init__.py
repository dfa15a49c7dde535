"""Evaluation: a model's numbers on one frozen test split, per bag as regulators count, with everything kept that they came from.

reference   what the reviewed annotations say, and what a detector said, as columns
matching    detections matched to boxes once; AP under any weights of the bags
coco        the same AP by the COCO reference implementation
outcomes    a bag's outcome from its views
thresholds  the operating point, chosen on the val split
bounds      exact and score bounds on rates and on paired differences
summary     the numbers of an evaluation, sliced
tables      detections and outcomes as Parquet
detecting   running a detector over a split
charts, gallery, page   what people look at
evaluate    the job
"""
