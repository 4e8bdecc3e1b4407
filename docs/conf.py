"""How Sphinx builds these pages: `python -m sphinx -W --keep-going -b html docs build/docs`,
without a network.
"""

import inspect
import pathlib
import re
import sys

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import gallery  # noqa: E402
import reference  # noqa: E402

project, author, copyright = "jaxrnn", "the jaxrnn authors", "the jaxrnn authors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_design",
]
html_theme = "sphinx_book_theme"
html_title = "jaxrnn"
html_theme_options = {"show_toc_level": 2, "navbar_persistent": []}
html_static_path = ["_static"]
html_css_files = ["jaxrnn.css"]
exclude_patterns = ["build"]
default_role = "code"  # docstrings write code between single backticks
nb_execution_mode = "off"  # the outputs of the notebooks are committed; the tests run them
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
# a method without words of its own is described where the word stands: in Cell
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
napoleon_use_rtype = False

NOTEBOOKS = HERE / "notebooks"
NOTEBOOKS.mkdir(exist_ok=True)
for old in NOTEBOOKS.glob("*.ipynb"):
    old.unlink()
for notebook in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
    text = notebook.read_text().replace("](../docs/", "](../")
    (NOTEBOOKS / notebook.name).write_text(text)

LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#]*)([^)]*)\)")


def linked(text: str, folder: pathlib.Path) -> str:
    """The text with its links as these pages need them: notebooks and the catalogue are pages, and
    of folders only the name is left.

    Args:
        text: Markdown.
        folder: where it stands in the repository.
    """

    def link(found: re.Match[str]) -> str:
        words, place, anchor = found.groups()
        file = (folder / place).resolve()
        if file.is_dir():
            return words
        if file == HERE.parent / "experiments" / "README.md":
            place = "catalogue.md"
        elif file.parent == HERE.parent / "notebooks":
            place = f"notebooks/{file.name}"
        elif folder != HERE:
            place = f"../{file.relative_to(HERE.parent)}"
        return f"[{words}]({place}{anchor})"

    return LINK.sub(link, text)


CATALOGUE = HERE.parent / "experiments" / "README.md"
(HERE / "catalogue.md").write_text(linked(CATALOGUE.read_text(), CATALOGUE.parent))


def relink(app: Sphinx, name: str, source: list[str]) -> None:
    """What stands in the repository is found from these pages."""
    if "/" not in name and name != "catalogue":
        source[0] = linked(source[0], HERE)


SECTION = re.compile(r"^(Args|Returns|Raises|Example|Examples|Yields|Note):$")


class Public(SphinxDirective):
    """`.. public:: MODULE [PART ...]`: the reference of the public names of a module
    that its parts define.
    """

    required_arguments, optional_arguments, final_argument_whitespace = 1, 1, True

    def run(self) -> list[nodes.Node]:
        module, *parts = " ".join(self.arguments).split()
        lines = [
            line
            for name, value in sorted(reference.selected(module, parts).items(), key=order)
            for line in entry(module, name, value)
        ]
        node = nodes.Element()
        self.state.nested_parse(StringList(lines, source=module), self.content_offset, node)
        return node.children


class Gallery(SphinxDirective):
    """`.. gallery::`: every cell with its equations, numbers and picture."""

    def run(self) -> list[nodes.Node]:
        node = nodes.Element()
        self.state.nested_parse(StringList(list(gallery.lines()), source="gallery"), 0, node)
        return node.children


def order(item: tuple[str, object]) -> tuple[bool, str]:
    """By name, the records of parameters and carries last."""
    name, value = item
    return hasattr(value, "_fields"), name


def entry(module: str, name: str, value: object) -> list[str]:
    """The reStructuredText of one name."""
    if hasattr(value, "_fields"):
        described = (
            escaped(line).strip()
            for line in (*reference.words(value), *(f"- {f}" for f in reference.fields(value)))
        )
        head = [f".. py:class:: {name}({', '.join(value._fields)})", f"   :module: {module}", ""]
        return [*head, *(f"   {line}" for line in described), ""]
    if isinstance(value, type):
        options = [
            "   :members:",
            "   :special-members: __call__",
            "   :inherited-members: Module, Cell, Wrapper, ValueError",
            "",
        ]
        return [f".. autoclass:: {module}.{name}", *options]
    return [f".. autofunction:: {module}.{name}", ""]


def escaped(line: str) -> str:
    """A line of a docstring whose stars and bars are plain text, as in [T, *batch],
    but for what stands between backticks.
    """
    line = re.sub(r": ([A-Z])\.(?= |$)", r": \1\\.", line)  # "hidden_size: H." begins no list
    return "`".join(
        part if k % 2 else re.sub(r"([*|])", r"\\\1", part)
        for k, part in enumerate(line.split("`"))
    )


def plain(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Makes reStructuredText of a docstring: equations are literal blocks, stars are stars."""
    result, section, literal = [], False, False
    for before, line in zip(["", *lines], lines, strict=False):
        indented = line.startswith(" ")
        if line and not indented:
            section, literal = bool(SECTION.match(line)), False
        if indented and not section and not literal and not before:
            result, literal = [*result, ".. code-block:: text", ""], True
        result.append(line if literal or ">>>" in line else escaped(line))
    lines[:] = result


def own(
    app: Sphinx, what: str, name: str, value: type, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """The signature of `__init__`, where a metaclass (that of Flax nnx) hides it."""
    if what != "class" or not (signature or "").startswith("(*args"):
        return None
    found = inspect.signature(value.__init__)
    found = found.replace(parameters=list(found.parameters.values())[1:])
    return stringify_signature(found, show_return_annotation=False, unqualified_typehints=True), ""


def setup(app: Sphinx) -> None:
    app.add_directive("public", Public)
    app.add_directive("gallery", Gallery)
    app.connect("source-read", relink)
    app.connect("autodoc-process-signature", own)
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon
