"""Reads a report back out of its HTML, for tests."""

import html.parser
import json

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Parsed(html.parser.HTMLParser):
    """Tags, attributes and text of a page; every tag must close in turn.

    Attributes:
        tags: (name, attributes) of each tag.
        texts: what stands between tags.
    """

    def __init__(self, text):
        """Parse a page; AssertionError for tags that do not close."""
        super().__init__()
        self.tags, self.texts, self._open, self._scripts = [], [], [], {}
        self.feed(text)
        self.close()
        assert self._open == [], "tags are left open"

    def script(self, name=""):
        """Return the text of a script by its id; the script of the page has none."""
        return self._scripts[name]

    def json(self, name):
        """Return the data of the script with this id."""
        return json.loads(self._scripts[name])

    def photographs(self):
        """Return what the page holds of each photograph, by name, in the order of the page."""
        known = self.json("index")["photographs"]
        return {one["name"]: one | self.json(f"photograph-{number}") for number, one in enumerate(known)}

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script":
            name = attributes.get("id", "")
            self._scripts[name] = self._scripts.get(name, "") + data
        else:
            self.texts.append(data)
