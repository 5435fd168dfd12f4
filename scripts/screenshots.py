#!/usr/bin/env python3
"""Take the pictures of the report and of the service's page, in light and dark.

    kgtool train configs/families.toml --out runs/families && kgtool evaluate runs/families
    python scripts/screenshots.py runs/families Abena_Kimura_1924 aunt_of Flora_Kimura_1958

The service's page shows why the triple holds; by default, the run's first test triple. The script
needs Chromium and the packages of the development (`scripts/setup --dev`). The pictures are as wide
as a phone, in 64 colours.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from base64 import b64decode
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the driver of the browser, which the tests share

import kgtool  # noqa: E402
from tests.support.browser import BROWSER, Tab, browser_tab  # noqa: E402
from tests.support.services import served  # noqa: E402

WIDTH, HEIGHT = 480, 1250
COLORS = 64


def take(tab: Tab, address: str, ready: str, out: Path) -> None:
    """Write `OUT-light.png` and `OUT-dark.png` of a page.

    Args:
        tab: the browser's tab.
        address: the page.
        ready: an expression that is true once the page is complete.
        out: the file's path without its ending.
    """
    for dark in (False, True):
        tab.open(address, WIDTH, HEIGHT, dark)
        tab.until(ready)
        tab.run("scrollTo(0, 0)")
        shot = tab.call("Page.captureScreenshot")["data"]
        image = Image.open(io.BytesIO(b64decode(shot))).convert("RGB")
        file = out.with_name(f"{out.name}-{'dark' if dark else 'light'}.png")
        image.quantize(COLORS, dither=Image.Dither.NONE).save(file, optimize=True)
        print(f"{file}: {file.stat().st_size / 1024:.0f} KB")


def main() -> None:
    """Parse the arguments and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="an evaluated run")
    parser.add_argument("triple", nargs="*", help="head, relation and tail")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures", help="%(default)s")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if BROWSER is None:
        sys.exit("screenshots: no chromium on the PATH. Remedy: install it (apt install chromium).")
    predictor = kgtool.open_predictor(args.run)
    predictor.prepare()
    head, relation, tail = args.triple or predictor.dataset.to_frame("test").iloc[0]
    with tempfile.TemporaryDirectory() as folder, browser_tab(Path(folder) / "profile") as tab:
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        page = kgtool.report(predictor, out=Path(folder) / "report.html")
        take(tab, page.as_uri(), "true", args.out / "report")
        with served(predictor) as port:
            query = urlencode({"head": head, "relation": relation, "why": tail})
            at = "document.getElementById"
            ready = f"!{at}('why').hidden && !{at}('status').textContent"
            take(tab, f"http://127.0.0.1:{port}/?{query}", ready, args.out / "service")


if __name__ == "__main__":
    main()
