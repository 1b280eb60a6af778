"""What the tests with other people's SDKs need, and what they say where it is missing.

`.ci/run` installs it. By hand: `npm install --no-package-lock --ignore-scripts` in this folder, and Chromium from the system.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
NODE = shutil.which("node")
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def _npm_missing() -> str:
    if not (MODULES / "@segment").is_dir() or not (MODULES / "@rudderstack").is_dir():
        return "the npm packages of tests/clients are not installed (.ci/run does it where there is npm)"
    return ""


_no_node = _npm_missing() if NODE else "there is no Node.js on this machine"
_no_chromium = _npm_missing() if CHROMIUM else "there is no Chromium on this machine"

needs_node = pytest.mark.skipif(bool(_no_node), reason=f"clients: {_no_node}")
needs_chromium = pytest.mark.skipif(bool(_no_chromium), reason=f"clients: {_no_chromium}")


def snippet(language: str, saying: str, *, address: str, key: str) -> str:
    """The piece of code on the page about sending events that says this, with a real address and key."""
    page = HERE.parents[1] / "docs" / "how-to" / "send-events.md"
    found = [
        code for code in re.findall(rf"```{language}[^\n]*\n(.*?)```", page.read_text(), re.DOTALL) if saying in code
    ]
    assert len(found) == 1, f"{page.name} has {len(found)} pieces of {language} with {saying}"
    [code] = found
    assert "https://mebae.example.jp" in code
    code, keys = re.subn(r"YOUR-(WRITE|PAGE)-KEY", key, code)
    assert keys == 1
    return code.replace("https://mebae.example.jp", address)
