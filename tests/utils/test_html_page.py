"""Pages: text stays text, and everything wide scrolls in its own box."""

from fid_med.utils.html_page import embed_png, escape, make_page, make_table


def test_text_is_not_interpreted():
    assert escape('<a href="x">&') == "&lt;a href=&quot;x&quot;&gt;&amp;"
    page = make_page("a < b & $c", "<p>100 % of $d</p>")
    assert "<title>a &lt; b &amp; $c</title>" in page
    assert "<h1>a &lt; b &amp; $c</h1>\n<p>100 % of $d</p>" in page


def test_a_table_has_classes_where_given_and_scrolls():
    table = make_table(["name", "value"], [["a", ("n", "1")], [("any", "b"), "2"]], "What it is")
    assert table.startswith('<p class="small">What it is</p><div class="scroll" tabindex="0">')
    assert '<tr><td>a</td><td class="n">1</td></tr>' in table
    assert '<tr><td class="any">b</td><td>2</td></tr>' in table
    assert "small" not in make_table(["x"], [])


def test_a_figure_is_in_the_page_itself():
    assert embed_png(b"abc", 'of "x"') == (
        '<div class="scroll" tabindex="0"><img alt="of &quot;x&quot;" '
        'src="data:image/png;base64,YWJj"></div>\n'
    )
