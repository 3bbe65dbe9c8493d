"The laws of the house: arrows point down, one engine behind one door, short cells and lines, names that somebody uses"
import ast, json, re, subprocess, sys
from pathlib import Path
import pytest

top = Path(__file__).resolve().parents[1]
package = top/'remember_past'
modules = {p.relative_to(package).with_suffix('').as_posix().replace('/', '.'): p for p in sorted(package.rglob('*.py')) if p.name not in ('__init__.py', '_modidx.py')}
notebooks = sorted(p for p in (top/'nbs').rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(top).parts))
short = lambda p: p.relative_to(top).as_posix()

def code(page): return [''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']

def imported(name):
    "Modules of the package that a module imports, anywhere in it"
    found, here = set(), name.split('.')
    for node in ast.walk(ast.parse(modules[name].read_text(encoding='utf-8'))):
        if not isinstance(node, ast.ImportFrom): continue
        base = '.'.join(here[:len(here)-node.level] + ([node.module] if node.module else [])) if node.level else (node.module or '').removeprefix('remember_past.')
        found |= {m for m in (base, *(f'{base}.{a.name}'.lstrip('.') for a in node.names)) if m in modules}
    return found - {name}

arrows = {m: imported(m) for m in modules}

def test_only_the_lab_imports_the_lab():
    bad = [f'{m} imports {n}' for m, ns in arrows.items() for n in ns if n.startswith('lab.') and not m.startswith('lab.')]
    assert not bad, '\n'.join(bad)

def test_nothing_imports_the_commands():
    bad = [f'{m} imports {n}' for m, ns in arrows.items() for n in ns if n == 'lab.commands']
    assert not bad, '\n'.join(bad)

def test_no_circle():
    "Nor by a string that names a module of ours"
    done, path = set(), []
    def walk(m):
        assert m not in path, ' -> '.join([*path[path.index(m):], m])
        if m in done: return
        path.append(m)
        for n in sorted(arrows[m]): walk(n)
        path.pop(); done.add(m)
    for m in modules: walk(m)
    for m, p in modules.items(): assert 'import_module' not in p.read_text(encoding='utf-8'), f'{m} imports by a string'

def test_quick_to_import():
    "No matplotlib, pandas or Jupyter behind the names that a reader needs"
    code = "import sys, remember_past.all; print(*[m for m in ('matplotlib', 'pandas', 'IPython', 'papermill', 'sklearn', 'torchvision') if m in sys.modules])"
    got = subprocess.run([sys.executable, '-c', code], cwd=top, capture_output=True, text=True, check=True)
    assert not got.stdout.strip(), got.stdout

def test_kernels_are_known_to_the_engine_only():
    "No `isinstance` of a kernel outside the engine"
    kernels = 'FuncSteps|FusedConvNet|FusedMLP|FusedConv'
    bad = [f'{m}: {l.strip()[:100]}' for m, p in modules.items() if not m.startswith('engine.') for l in p.read_text(encoding='utf-8').splitlines() if re.search(rf'isinstance\([^)]*\b(?:{kernels})\b', l)]
    assert not bad, '\n'.join(bad)

def names(): # name -> modules that export it
    found = {}
    for m, p in modules.items():
        for node in ast.parse(p.read_text(encoding='utf-8')).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__':
                for n in ast.literal_eval(node.value): found.setdefault(n, []).append(m)
    return found

def test_public_names():
    "At most 300, and no name for two things"
    found = {n: [m for m in ms if m != 'all'] for n, ms in names().items()}
    assert sum(map(len, found.values())) <= 300
    twice = {n: ms for n, ms in found.items() if len(ms) > 1}
    assert not twice, twice

def test_public_because_somebody_uses_it():
    texts = {short(p): '\n'.join(code(p)) for p in notebooks} | {short(p): p.read_text(encoding='utf-8') for p in [*(top/'tests').glob('*.py'), *(top/'tools').glob('*.py'), top/'settings.ini']}
    home = {next(re.search(r'^#\|\s*default_exp\s+(\S+)', c, re.M)[1] for c in code(p) if re.search(r'^#\|\s*default_exp\s', c, re.M)): short(p) for p in notebooks if any(re.search(r'^#\|\s*default_exp\s', c, re.M) for c in code(p))}
    bad = [f'{m}.{n}' for n, ms in names().items() for m in ms if not any(re.search(rf'\b{n}\b', t) for f, t in texts.items() if f != home[m])]
    assert not bad, f'used by nobody else, begin them with an underscore: {bad}'

@pytest.mark.parametrize('page', notebooks, ids=short)
def test_lines_fit_a_screen(page):
    bad = [l[:90] for c in code(page) for l in c.split('\n') if len(l) > 140]
    assert not bad, f'{len(bad)} lines over 140 characters:\n' + '\n'.join(bad[:5])

@pytest.mark.parametrize('page', notebooks, ids=short)
def test_notebooks_are_short(page):
    "At most 45 cells, with those of prose"
    assert len(json.loads(page.read_text(encoding='utf-8'))['cells']) <= 45, 'split it by the question it answers'

def test_functions_fit_a_screen():
    "At most 45 lines of body"
    bad = []
    for m, p in modules.items():
        for node in ast.walk(ast.parse(p.read_text(encoding='utf-8'))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (n := node.end_lineno - node.body[0].lineno + 1) > 45: bad.append(f'{m}.{node.name}: {n}')
    assert not bad, bad
