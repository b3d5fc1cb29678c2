"""Shows that docs/API.md is what the description and the chapters give, and that a chapter or a route that is missing is found."""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from openapi_manual import Manual, Mistake  # noqa: E402

document = json.loads((ROOT / "docs/openapi.json").read_text())
chapters = (ROOT / "docs/openapi/manual.md").read_text()
assert Manual(document).made(chapters) == (ROOT / "docs/API.md").read_text()
for altered in (
    chapters.replace("### `POST /api/encrypt`", "### Encrypt"),
    chapters.replace("### `GET /docs`", "### `GET /docs`\n\n### `GET /nothing`"),
    chapters.replace("<!-- errors -->", ""),
):
    try:
        Manual(document).made(altered)
        print("not found")
    except Mistake:
        print("found")
