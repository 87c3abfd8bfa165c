"""The web page: one file without external parts, whose own script and style alone may run."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

PAGE = "page.html"


@dataclass(frozen=True)
class WebPage:
    """The page and the headers that restrict it."""

    html: str
    headers: Mapping[str, str]


def load_page() -> WebPage:
    """Read the page, and allow its script and its style by their hashes."""
    html = files("epalm.serve").joinpath("templates", PAGE).read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _hashes(html, "script"),
        "style-src": _hashes(html, "style"),
        "img-src": "data: blob:",
        "media-src": "blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }
    return WebPage(html, headers)


def _hashes(html: str, element: str) -> str:
    contents = re.findall(f"<{element}>(.*?)</{element}>", html, flags=re.DOTALL)
    digests = [hashlib.sha256(content.encode()).digest() for content in contents]
    return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)
