"""The names of the reference: what each page of docs/api lists,
read from the modules themselves.
"""

import importlib
import inspect
import re


def public(module: str) -> dict[str, object]:
    """The public names of a module: its `__all__`,
    else what it defines without an underscore; modules are left out.
    """
    loaded = importlib.import_module(module)
    own = [
        name
        for name, value in vars(loaded).items()
        if getattr(value, "__module__", None) == module and name[0] != "_"
    ]
    named = {name: getattr(loaded, name) for name in getattr(loaded, "__all__", own)}
    return {
        name: value
        for name, value in named.items()
        if not inspect.ismodule(value) and name != "__version__"
    }


def selected(module: str, parts: list[str]) -> dict[str, object]:
    """The public names of a module that are defined in one of `parts`,
    and in none that has a minus; all without parts.
    """
    within = tuple(f"jaxrnn.{part}" for part in parts if part[0] != "-") or ("",)
    without = tuple(f"jaxrnn.{part[1:]}" for part in parts if part[0] == "-")
    home = {name: getattr(value, "__module__", "") for name, value in public(module).items()}
    names = (
        name
        for name in home
        if home[name].startswith(within) and not home[name].startswith(without or ("-",))
    )
    return {name: public(module)[name] for name in names}


def fields(record: type) -> list[str]:
    """The fields of a NamedTuple with the comments that stand beside or above them."""
    line = r"((?:^    # .*\n)*)^    (\w+): [^#\n]*(?:#\s*(.*))?$"
    found = re.findall(line, inspect.getsource(record), flags=re.MULTILINE)
    comments = {
        name: beside or " ".join(above.replace("    # ", "").split())
        for above, name, beside in found
    }
    return [
        f"``{name}``" + (f": {comments[name]}" if comments.get(name) else "")
        for name in record._fields
    ]


def words(record: type) -> list[str]:
    """The docstring of a NamedTuple, without the one that Python writes."""
    doc = inspect.getdoc(record) or ""
    return [] if doc.startswith(f"{record.__name__}(") else [*doc.splitlines(), ""]
