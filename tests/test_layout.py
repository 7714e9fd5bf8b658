"""The rooms of the package: their order, their doors, and the size of their files."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'ecotta_seg'
# From the lowest to the highest: a room imports from itself and from the rooms before it.
ROOMS = (
    'names',
    'startup',
    'files',
    'registry',
    'memory',
    'memory/lean/autograd_ops',
    'memory/lean',
    'memory/frozen_graph',
    'layers',
    'inference',
    'memory/budget',
    'meta_networks',
    'memory/engine',
    'config',
    'datasets/checks',
    'datasets',
    'datasets/weather',
    'datasets/scenes',
    'resume',
    'evaluation',
    'visualization',
    'distributed',
    'methods',
    'guard',
    'masks',
    'report',
    'hooks',
    'apis',
    'deploy',
    'sparsity',
    'ros',
    'benchmark',
    'choice',
    'cli',
)
# Rooms that the others enter by their ``__init__.py`` alone.
ONE_DOOR = ('memory/engine',)
# The package itself is above all rooms, its version below them.
AT_THE_ROOT = ('__init__.py', 'version.py')
# Folders of tests that belong to no room.
OTHER_TESTS = ('docs', 'real', 'tools')
LONGEST = 350
TOO_LONG = (
    'tests/apis/test_adaptive_segmentor.py',
    'tests/hooks/test_stream_state_hook.py',
    'tests/methods/test_ecotta_plus.py',
    'tests/methods/test_every_method.py',
)


def modules_of(root):
    """The path of each module of the package below a folder, by the module's dotted name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob('*.py')):
        if '.mim' not in path.parts:
            parts = path.relative_to(root).with_suffix('').parts
            found['.'.join(parts[:-1] if path.name == '__init__.py' else parts)] = path
    return found


def imports_of(modules):
    """The modules of the package that each module imports, lazily or not."""
    return {name: set(_imported(name, path, modules)) for name, path in modules.items()}


def astray(imports):
    """The imports of modules of the package that do not exist."""
    found = ((name, target) for name, targets in imports.items() for target in targets)
    return sorted(f'{name} -> {target}' for name, target in found if target not in imports)


def _imported(name, path, modules):
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _is_own(alias.name))
        elif isinstance(node, ast.ImportFrom):
            above = package.split('.')[: len(package.split('.')) - node.level + 1]
            base = '.'.join([*(above if node.level else ()), *filter(None, [node.module])])
            if _is_own(base):
                inner = [f'{base}.{alias.name}' for alias in node.names]
                yield from (full if full in modules else base for full in inner)


def _is_own(name):
    return name.partition('.')[0] == PACKAGE


def room_of(module):
    """The innermost room of a module; the module's own name if the module is in none."""
    path = module.partition('.')[2].replace('.', '/')
    rooms = [room for room in ROOMS if f'{path}/'.startswith(f'{room}/')]
    return max(rooms, key=len, default=path)


def upward(imports, doors):
    """The imports of a room that is above the importing one.

    Args:
        imports: See ``imports_of``.
        doors: Names of packages; a package may show what the rooms inside of it have.
    """
    found = []
    for module, targets in imports.items():
        for target in targets:
            one, other = room_of(module), room_of(target)
            inside = module in doors and target.startswith(f'{module}.')
            if module == PACKAGE or inside or target == f'{PACKAGE}.version':
                continue
            if target == PACKAGE or ROOMS.index(other) > ROOMS.index(one):
                found.append(f'{module} -> {target}')
    return sorted(found)


def circle(imports):
    """The modules of a circle of imports; None if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]


def past_doors(imports):
    """The imports that enter a room of ``ONE_DOOR`` other than by the door."""
    return sorted(
        f'{module} -> {target}'
        for module, targets in imports.items()
        for target in targets
        if room_of(target) in ONE_DOOR
        and room_of(module) != room_of(target)
        and target != f'{PACKAGE}.{room_of(target)}'.replace('/', '.')
    )


def packages(modules):
    """The names of the modules that are packages."""
    return {name for name, path in modules.items() if path.name == '__init__.py'}


@pytest.fixture(scope='module')
def modules():
    return modules_of(ROOT)


@pytest.fixture(scope='module')
def imports(modules):
    return imports_of(modules)


def test_each_folder_is_a_room(modules):
    folders = {path.parent.relative_to(ROOT / PACKAGE).as_posix() for path in modules.values()}
    assert folders - {'.'} == set(ROOMS)
    loose = [path.name for path in (ROOT / PACKAGE).glob('*.py')]
    assert sorted(loose) == sorted(AT_THE_ROOT), 'put the module into one of the rooms'


def test_each_import_leads_to_a_module(imports):
    assert astray(imports) == []


def test_no_import_points_upwards(modules, imports):
    assert upward(imports, packages(modules)) == []


def test_there_is_no_circle_of_imports(imports):
    assert circle(imports) is None


def test_a_room_with_one_door_is_entered_by_it(imports):
    assert past_doors(imports) == []


def test_tests_mirror_the_rooms():
    folders = {
        path.parent.relative_to(ROOT / 'tests') for path in ROOT.glob('tests/*/**/test_*.py')
    }
    known = {*ROOMS, *OTHER_TESTS}
    assert [folder for folder in folders if folder.as_posix() not in known] == []


def test_no_file_is_too_long():
    files = [path for top in (PACKAGE, 'tests', 'tools') for path in (ROOT / top).rglob('*.py')]
    files = [path.relative_to(ROOT) for path in files if '.mim' not in path.parts]
    long = [
        path.as_posix()
        for path in files
        if len((ROOT / path).read_text(encoding='utf-8').splitlines()) > LONGEST
    ]
    assert sorted(long) == sorted(TOO_LONG), 'split the file, or take it off the list'


@pytest.mark.parametrize(('room', 'line', 'wrong'), [
    ('config', 'from ..hooks.made import x', True),
    ('config', 'def f():\n    from ..hooks import made', True),
    ('config', 'if 1:\n    import ecotta_seg.hooks.made', True),
    ('config', 'from ecotta_seg.hooks.made import x', True),
    ('config', 'import ecotta_seg', True),
    ('memory/lean', 'from ...hooks import made', True),
    ('memory/lean', 'from ..engine import made', True),
    ('hooks', 'from ..config.made import x', False),
    ('memory/engine', 'from ..lean.made import x', False),
    ('config', 'from .made import x', False),
    ('config', 'from ..version import __version__', False),
])  # fmt: skip
def test_an_arrow_upwards_is_found(tmp_path, room, line, wrong):
    for folder in ('.', *ROOMS):
        folder = tmp_path / PACKAGE / folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / '__init__.py').touch()
        (folder / 'made.py').touch()
    (tmp_path / PACKAGE / 'version.py').touch()
    (tmp_path / PACKAGE / room / 'new.py').write_text(line)
    modules = modules_of(tmp_path)
    assert bool(upward(imports_of(modules), packages(modules))) == wrong


def test_a_circle_and_a_way_past_a_door_are_found():
    assert set(circle({'a': {'b'}, 'b': {'c'}, 'c': {'a'}})) == {'a', 'b', 'c'}
    engine, method = f'{PACKAGE}.memory.engine', f'{PACKAGE}.methods.ecotta'
    assert past_doors({method: {f'{engine}.planning'}}) == [f'{method} -> {engine}.planning']
    assert past_doors({method: {engine}, f'{engine}.planning': {f'{engine}.dry_run'}}) == []


@pytest.mark.parametrize('line', ['from .gone import x', 'import ecotta_seg.gone'])
def test_an_import_of_nothing_is_found(tmp_path, line):
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / '__init__.py').write_text(line)
    modules = modules_of(tmp_path)
    assert astray(imports_of(modules)) == [f'{PACKAGE} -> {PACKAGE}.gone']
