"""A report driven in Chromium, where it is installed: filters, keys, enlarging, names that try to be HTML."""

import html
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from autofocus_jax.report.page import page
from autofocus_jax.report.values import LOST, WON, FocusMap, Mark, Pane, Photograph, Report
from autofocus_jax.structures import Detections

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '</script><img src=x onerror="window.hacked=1"><b>\''

# What a person would do, and what is there after each step.
DRIVE = """
<script>
setTimeout(() => {
  const all = (words) => [...document.querySelectorAll(words)], result = {};
  const shown = "article:not([hidden])";
  const look = (name) => {
    result[name] = {
      photographs: all(`${shown} bdi`).map((one) => one.textContent),
      found: all(`${shown} rect.found`).length,
      badges: all(`${shown} .badge`).map((one) => one.textContent),
    };
  };
  const set = (id, value, event) => {
    const node = document.getElementById(id);
    node.value = value;
    node.dispatchEvent(new Event(event));
  };
  const press = (key) => {
    (document.activeElement ?? document.body).dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  };
  press("j"); press("j"); press("j");
  result.focused = document.activeElement.querySelector("bdi").textContent;
  look("first");
  set("score", 0.6, "input"); look("score");
  set("score", 0.25, "input"); set("label", 1, "change"); look("label");
  set("label", -1, "change"); document.getElementById("differ").click(); look("differ");
  set("order", "name", "change"); look("order");
  result.shapes = ["chip", "lost", "won"].map((kind) => all(`article rect.${kind}`).length);
  result.focus = all("article image.focus").length;
  result.alternatives = all("article img").every((one) => one.alt);
  result.labels = all("article button").every((one) => one.getAttribute("aria-label"));
  all(shown)[0].focus(); press("Enter");
  result.enlarged = document.getElementById("large").open;
  result.hacked = "hacked" in window || all("bdi *, option *").length > 0;
  document.body.dataset.result = JSON.stringify(result);
}, 300);
window.addEventListener("error", (event) => { document.body.dataset.error = event.message; });
</script>
</body>
"""


def photograph(name, found, marks=()):
    image = cv2.imencode(".jpg", np.full((60, 90, 3), 120, np.uint8))[1].tobytes()
    values = np.array(found, np.float32).reshape(-1, 2)
    boxes = np.array([[1, 1, 9, 9]] * len(values), np.float32).reshape(-1, 4)
    detections = Detections(boxes, values[:, 0], values[:, 1].astype(np.int32))
    pane = Pane("ours", "", detections, chips=np.array([[0, 0, 30, 30], [40, 0, 80, 50]], np.float32),
                focus=[FocusMap([0, 0, 90, 60], np.eye(3))], marked=True)  # fmt: skip
    return Photograph(name, (60, 90), image, [pane], marks, [(number, image) for number in range(len(marks))])


@pytest.mark.skipif(CHROMIUM is None, reason="wants Chromium: apt-get install chromium")
def test_a_person_looks_at_a_report(tmp_path):
    mark = [1, 1, 9, 9]
    shown = [
        photograph("b.jpg", [(0.9, 0), (0.5, 1)]),
        photograph("c.jpg", [(0.7, 0)], [Mark(LOST, mark, 0, 0.9), Mark(WON, mark, 0, 0.5)]),
        photograph(HOSTILE, [(0.3, 0)], [Mark(LOST, mark, 0, 0.9)]),
    ]
    text = page(Report(HOSTILE, [HOSTILE, "person"], photographs=shown)).replace("</body>", DRIVE)
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1200,900",
             f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
             (tmp_path / "report.html").as_uri()]  # fmt: skip
    shape = subprocess.run(words, check=True, capture_output=True, timeout=120).stdout.decode()
    assert "data-error" not in shape
    result = json.loads(html.unescape(re.search(r'<body[^>]* data-result="([^"]*)"', shape)[1]))
    first = ["c.jpg", HOSTILE, "b.jpg"]
    assert result["first"] == {"photographs": first, "found": 4, "badges": ["1 lost", "1 won", "1 lost"]}
    assert result["focused"] == "b.jpg", "the third of them"
    assert result["score"] == {"photographs": first, "found": 2, "badges": ["1 lost", "1 lost"]}
    assert result["label"] == {"photographs": ["b.jpg"], "found": 1, "badges": []}
    assert result["differ"]["photographs"] == first[:2] and result["differ"]["found"] == 2
    assert sorted(result["order"]["photographs"]) == sorted(first[:2])
    assert result["shapes"] == [6, 4, 2], "chips; lost and won over the photograph and in its crop"
    assert result["focus"] == 3 and result["enlarged"] and not result["hacked"]
    assert result["alternatives"] and result["labels"]
