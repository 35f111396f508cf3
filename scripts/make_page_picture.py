"""Draw docs/figures/page.png: the first screen of the page of results/report, in Chromium.

python scripts/make_page_picture.py
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import bitladder

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "docs" / "figures" / "page.png"
WIDTH, HEIGHT = 1160, 900
COLOURS = 128  # of the picture's palette, which keeps it small
LARGEST = 200_000


def main() -> None:
    """Draw the page from the run's folder, and its first screen from the page.

    Raises:
        SystemExit: there is no Chromium, or the picture is larger than a repository should hold.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("make_page_picture: Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory() as folder:
        run, shot = Path(folder) / "report", Path(folder) / "page.png"
        shutil.copytree(ROOT / "results" / "report", run)
        page = bitladder.write_report(run)
        command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        command += [f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=20000"]
        subprocess.run([*command, f"--screenshot={shot}", page.as_uri()], check=True, timeout=300)
        with Image.open(shot) as picture:
            few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(OUTPUT, optimize=True)
    size = OUTPUT.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"make_page_picture: {OUTPUT} takes {size} bytes, over {LARGEST}")
    print(f"{OUTPUT}: {size} bytes")


if __name__ == "__main__":
    main()
