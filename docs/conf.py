"""The manual, for Sphinx: `make docs` builds it into site/."""

project = 'ecotta_seg'
author = 'The ecotta_seg developers'
copyright = author
extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
html_theme = 'furo'
html_title = 'ecotta_seg'
# Headings have anchors as on GitHub, so that links work in both.
myst_heading_anchors = 4
suppress_warnings = ['myst.header', 'misc.highlighting_failure']
highlight_language = 'none'
autodoc_default_options = {'members': True, 'member-order': 'bysource', 'show-inheritance': True}
autodoc_typehints = 'signature'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Attributes are described in the docstring of their class.
napoleon_use_ivar = True
