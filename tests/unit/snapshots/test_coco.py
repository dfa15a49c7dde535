from __future__ import annotations

import contextlib
import io

from snapshot_records import KNIFE, record

from scanloop.canonical import canonical_json
from scanloop.labelling.boxes import Box
from scanloop.snapshots.coco import image_ids, to_coco

GUN = Box("handgun", (1, 1, 2, 2))
RECORDS = [record("b", boxes=(GUN, KNIFE)), record("a", boxes=(KNIFE, Box("retired", (0, 0, 1, 1)))), record("c", boxes=())]


def test_category_ids_follow_the_definition_and_image_ids_the_scan():
    coco = to_coco(RECORDS, ["handgun", "knife"])
    assert coco["categories"] == [{"id": 1, "name": "handgun"}, {"id": 2, "name": "knife"}]
    assert sorted(annotation["category_id"] for annotation in coco["annotations"]) == [1, 2, 2]
    alone = to_coco(RECORDS[:1], ["handgun", "knife"])
    assert alone["images"][0] in coco["images"], "an image keeps its id in another snapshot"
    assert to_coco(RECORDS[::-1], ["handgun", "knife"]) == coco


def test_image_ids_are_exact_as_floats_and_never_collide():
    same = "a" * 13
    ids = image_ids([same + "1", same + "0", "b" * 64])
    assert len(set(ids.values())) == 3
    assert ids[same + "1"] == ids[same + "0"] + 1
    assert all(int(float(number)) == number for number in ids.values())


def test_faster_coco_eval_scores_the_truth_as_perfect(tmp_path):
    from faster_coco_eval import COCO, COCOeval_faster

    path = tmp_path / "test.json"
    path.write_bytes(canonical_json(to_coco(RECORDS, ["handgun", "knife"])))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        detections = [
            {"image_id": one["image_id"], "category_id": one["category_id"], "bbox": one["bbox"], "score": 0.9}
            for one in truth.dataset["annotations"]
        ]
        scored = COCOeval_faster(truth, truth.loadRes(detections), iouType="bbox")
        scored.run()
    assert scored.stats[0] == 1.0
