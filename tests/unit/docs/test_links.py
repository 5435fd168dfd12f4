"""The check of a built site finds links that lead nowhere."""

from __future__ import annotations

from docs._ext.links import dead_links


def test_dead_links_are_found(tmp_path):
    (tmp_path / "start").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="start/a.html#here">1</a> <a href="start/a.html#gone">2</a> <a href="#top">3</a>'
        '<h1 id="top"></h1> <img src="no.png"> <a href="https://example.org/x">4</a>'
    )
    (tmp_path / "start" / "a.html").write_text('<p id="here"></p> <a href="../index.html">5</a>')
    assert dead_links(tmp_path) == [
        "index.html: start/a.html#gone has no such anchor",
        "index.html: no.png does not exist",
    ]
