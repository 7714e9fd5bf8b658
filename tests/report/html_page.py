"""Reads a page: well-formed, its tables, and all that it would load."""

from html.parser import HTMLParser

_VOID = {'meta', 'img', 'source', 'br', 'hr', 'link', 'input'}
_LOADS = {'src', 'href', 'srcset', 'data', 'action', 'poster', 'background', 'xlink:href'}


class Page(HTMLParser):
    """Attributes: ``tables`` (rows of texts by title), ``text``, ``loads``, ``tags``, ``ids``."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tables, self.loads, self.tags, self.ids = {}, [], [], []
        self.text, self._open = '', []
        self._rows, self._cell, self._title = [], None, None
        assert text.lower().startswith('<!doctype html>')
        self.feed(text)
        self.close()
        assert self._open == [], f'not closed: {self._open}'

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == 'id':
                assert value not in self.ids, f'{value} is there twice'
                self.ids.append(value)
            if name in _LOADS:
                self.loads.append((tag, name, value))
            assert not name.startswith('on'), f'a script in {tag}.{name}'
        if tag not in _VOID:
            self._open.append(tag)
        if tag == 'table':
            self._rows, self._title = [], ''
        elif tag == 'tr':
            self._rows.append([])
        elif tag in ('td', 'th', 'caption'):
            self._cell = ''

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open and self._open[-1] == tag, f'</{tag}> closes {self._open[-1:]}'
        self._open.pop()
        if tag == 'caption':
            self._title, self._cell = self._cell, None
        elif tag in ('td', 'th'):
            self._rows[-1].append(self._cell)
            self._cell = None
        elif tag == 'table':
            assert self._title and self._title not in self.tables
            self.tables[self._title] = self._rows

    def handle_data(self, data):
        if self._open and self._open[-1] != 'style':
            self.text += data
        if self._cell is not None:
            self._cell += data

    def table(self, title):
        """A dict of cells by column's name for each row's name."""
        head, *rows = self.tables[title]
        assert all(len(row) == len(head) for row in rows)
        found = {row[0]: dict(zip(head[1:], row[1:])) for row in rows}
        assert len(found) == len(rows)
        return found
