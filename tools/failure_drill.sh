#!/usr/bin/env bash
# Kill an extraction, resume it, and compare the store with an undisturbed one:
#     bash tools/failure_drill.sh
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export OMP_NUM_THREADS=1

python - <<'END'
import json
import pathlib

import numpy as np
from PIL import Image

pathlib.Path("photos").mkdir()
draw = np.random.default_rng(0)
with open("photos/train.jsonl", "w") as manifest:
    for row in range(3000):
        Image.fromarray(draw.integers(0, 256, (40, 50, 3), np.uint8)).save(f"photos/{row}.png")
        manifest.write(json.dumps({"id": str(row), "media": f"{row}.png", "answers": ["a"]}) + "\n")
pathlib.Path("photos/7.png").write_bytes(b"not an image")
END

extract() {
  epalm-extract --encoder epalm.demo.encoder:micro_vit --dataset photos --quiet "$@"
}

echo "undisturbed:"
extract --out whole/s.zarr || true # exit code 3: one file is no image
extract --out killed/s.zarr &
victim=$!
until ls killed/s.zarr/epalm/done/*.json >/dev/null 2>&1 || ! kill -0 $victim; do sleep 0.05; done
kill -9 $victim
wait $victim 2>/dev/null || true
echo "killed:"
epalm-extract status killed/s.zarr || true
echo "resumed:"
extract --out killed/s.zarr || true
diff -r whole/s.zarr killed/s.zarr && echo identical
