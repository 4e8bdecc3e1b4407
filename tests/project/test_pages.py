"""The pages are true: their code runs, their tables have every argument there is, and the reference
every public name.
"""

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys

import pytest
import slow
from places import DOCS

import jaxrnn
import jaxrnn.linen
import jaxrnn.nnx
from jaxrnn.testing import check_cell

os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.usefixtures("quick_compilation")
# the catalogue is written when the pages are built
PAGES = sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "catalogue")
LONG = {
    "coming_from_pytorch",
    "sequences",
    "modules",
    "training",
    "write_your_own_cell",
    "write_your_own_method",
    "coming_from_flax",
    "agents",
}
PEERS = {"torch", "keras", "haiku", "equinox"}
MODULES = (
    "jaxrnn",
    "jaxrnn.cells",
    "jaxrnn.wrappers",
    "jaxrnn.sequences",
    "jaxrnn.nnx",
    "jaxrnn.linen",
    "jaxrnn.interop",
    "jaxrnn.testing",
    "jaxrnn.diagnostics",
    "jaxrnn.online",
    "jaxrnn.initializers",
    "jaxrnn.methods",
)
LAYERS = {  # what each page has a table for
    "coming_from_pytorch": "torch.nn: LSTM GRU RNN LSTMCell GRUCell RNNCell",
    "coming_from_flax": (
        "flax.linen: RNN Bidirectional LSTMCell OptimizedLSTMCell GRUCell SimpleCell MGUCell "
        "ConvLSTMCell; "
        "flax.nnx: RNN Bidirectional LSTMCell OptimizedLSTMCell GRUCell SimpleCell"
    ),
    "coming_from_keras": (
        "keras.layers: LSTM GRU SimpleRNN RNN Bidirectional LSTMCell GRUCell SimpleRNNCell "
        "StackedRNNCells ConvLSTM1D ConvLSTM2D ConvLSTM3D"
    ),
    "coming_from_haiku_equinox": (
        "haiku: LSTM GRU VanillaRNN Conv1DLSTM Conv2DLSTM Conv3DLSTM DeepRNN "
        "ResetCore dynamic_unroll static_unroll; equinox.nn: LSTMCell GRUCell"
    ),
}


def text(page):
    return (DOCS / f"{page}.md").read_text()


def blocks(page):
    return re.findall(r"```python\n(.*?)```", text(page), flags=re.DOTALL)


def peers(code):
    return PEERS & set(re.findall(r"^(?:import|from) (\w+)", code, flags=re.MULTILINE))


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    [*slow.some(PAGES, lambda page: page not in LONG, "it trains or compiles for seconds")],
)
@pytest.mark.usefixtures("standard_promotion", "own_names")
def test_the_code_of_a_page_that_needs_no_other_library_runs_by_itself(page):
    namespace = {}
    for block in (block for block in blocks(page) if not peers(block)):
        exec(block, namespace)
    assert ("jax" in namespace) == ("```python" in text(page))


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of Keras's variables under NumPy 2
@pytest.mark.peers
@pytest.mark.parametrize("page", [page for page in PAGES if peers("\n".join(blocks(page)))])
def test_the_code_of_a_page_runs_from_top_to_bottom(page):
    for library in sorted(peers("\n".join(blocks(page)))):
        pytest.importorskip(library, reason=f"the code of {page} needs {library}")
    namespace = {}
    for block in blocks(page):
        exec(block, namespace)


def test_every_page_of_layers_compares_numbers_with_the_library():
    for page in LAYERS:
        assert "np.testing.assert_allclose" in text(page), page


def layer_names(page):
    groups = (group.split(": ") for group in LAYERS[page].split("; "))
    return [f"{library}.{name}" for library, names in groups for name in names.split()]


def sections(page):
    """(names in the heading, text below it) for each heading that names layers."""
    parts = re.split(r"^#+ (.*)$", text(page), flags=re.MULTILINE)[1:]
    named = (
        (re.findall(r"`([\w.]+\.\w+)`", heading), body)
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    )
    return [(names, body) for names, body in named if names]


def arguments(name):
    """The arguments of a layer's constructor and call, or of a function."""
    module, _, last = name.rpartition(".")
    layer = getattr(pytest.importorskip(module, reason=f"the signature of {name} needs it"), last)
    if not inspect.isclass(layer):
        return set(inspect.signature(layer).parameters)
    make = layer.__init__
    if module == "torch.nn" and not last.endswith(
        "Cell"
    ):  # LSTM(*args, **kwargs): the base class has the names
        make = layer.__bases__[0].__init__
    call = (
        layer.forward
        if module == "torch.nn"
        else layer.call
        if module == "keras.layers"
        else layer.__call__
    )
    names = set(inspect.signature(make).parameters) | set(inspect.signature(call).parameters)
    names |= {"nonlinearity"} if name == "torch.nn.RNN" else set()
    return names - {"self", "args", "kwargs", "mode"}


@pytest.mark.parametrize("page", LAYERS)
def test_a_page_has_a_table_for_every_layer(page):
    assert sorted(name for names, _ in sections(page) for name in names) == sorted(
        layer_names(page)
    )


@pytest.mark.peers
@pytest.mark.parametrize(
    ("names", "body"),
    [pair for page in LAYERS for pair in sections(page)],
    ids=lambda v: str(v)[:40],
)
def test_a_table_has_exactly_the_arguments_that_the_library_has(names, body):
    real = set().union(*(arguments(name) for name in names))
    rows = re.findall(r"^\| (`[^|]*)\|", body, flags=re.MULTILINE)
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row)} == real


def our_arguments():
    values = [value for module in MODULES for value in load("reference").public(module).values()]
    values += [
        getattr(value, name)
        for value in values
        for name in ("__call__", "init", "step")
        if hasattr(value, name)
    ]
    callables = (
        value
        for value in values
        if callable(value) and not (inspect.isclass(value) and issubclass(value, Exception))
    )
    return {p for value in callables for p in inspect.signature(value).parameters}


@pytest.mark.parametrize("page", LAYERS)
def test_what_a_table_writes_for_ours_are_arguments_of_ours(page):
    cells = [
        line.split(" | ")[1]
        for line in text(page).splitlines()
        if line.startswith("| `") and line.count(" | ") > 1
    ]
    words = {
        word
        for cell in cells
        for code in re.findall(r"`([^`]*)`", cell)
        for word in re.findall(r"\b(\w+)=", code)
    }
    assert words and words <= our_arguments()


@pytest.mark.parametrize("page", PAGES)
def test_every_name_of_ours_on_a_page_exists(page):
    for name in set(re.findall(r"\bjaxrnn((?:\.\w+)+)", text(page))):
        found = jaxrnn
        for part in name[1:].split("."):
            found = getattr(found, part)


def test_the_template_of_a_cell_keeps_the_contract():
    check_cell(load("template_cell").CFNCell(hidden_size=4))


def test_the_template_is_the_cell_of_the_page():
    template, page = (DOCS / "template_cell.py").read_text(), blocks("write_your_own_cell")[0]
    for line in (
        "a_f, a_i = jaxrnn.gates(dot(carry.h, params.w_h))",
        "h = sigmoid(u_f + a_f) * jnp.tanh(carry.h) + sigmoid(u_i + a_i) * jnp.tanh(u_g)",
    ):
        assert line in page and line in template


def listed(module):
    """The names that the reference lists for a module, as often as it lists them."""
    reference = load("reference")
    lines = re.findall(
        r"^\.\. public:: (.*)$",
        "\n".join(p.read_text() for p in (DOCS / "api").glob("*.md")),
        flags=re.MULTILINE,
    )
    return [
        name
        for line in lines
        if line.split()[0] == module
        for name in reference.selected(module, line.split()[1:])
    ]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference_once(module):
    loaded = importlib.import_module(module)
    # three cells stand in the list of all
    elsewhere = {"__version__", *jaxrnn.cells.__all__} if module == "jaxrnn" else set()
    names = getattr(loaded, "__all__", None) or [
        name
        for name, value in vars(loaded).items()
        if getattr(value, "__module__", None) == module and name[0] != "_"
    ]
    assert sorted(listed(module)) == sorted(
        name
        for name in names
        if not inspect.ismodule(getattr(loaded, name)) and name not in elsewhere
    )


@pytest.mark.slow("CI builds them in a stage of its own too")
def test_the_pages_build_without_a_warning_and_hold_every_public_name(tmp_path):
    pytest.importorskip("myst_nb", reason="pip install 'jaxrnn[docs]'")
    sphinx = pytest.importorskip("sphinx.util.inventory", reason="pip install 'jaxrnn[docs]'")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    inventory = sphinx.InventoryFile.loads((tmp_path / "objects.inv").read_bytes(), uri="")
    names = {
        name
        for kind in ("py:class", "py:function", "py:exception")
        for name in inventory.data.get(kind, {})
    }
    assert {f"{module}.{name}" for module in MODULES for name in listed(module)} <= names
