"What holds for the repository as a whole: documented names, short cells, small files, commands that answer."
import ast, configparser, importlib, inspect, json, os, pkgutil, re, shutil, subprocess, sys
from pathlib import Path

import pytest, yaml
from fastcore.docments import docments

import remember_past

top = Path(__file__).resolve().parent.parent
ini = configparser.ConfigParser(delimiters=['='])
ini.read(top/'settings.ini')
cfg = ini['DEFAULT']
scripts = [s.split('=')[0] for s in cfg['console_scripts'].split()]
notebooks = sorted(p for p in (top/'nbs').rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(top).parts))
textual = {'.ipynb', '.py', '.md', '.yml', '.ini', '.toml', '.css', '.csv', '.json', '.txt', ''}

def files():
    "Every file that is or could be committed"
    got = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard', '-z'], cwd=top, capture_output=True, text=True)
    if got.returncode == 0: return [p for p in map(top.joinpath, sorted(set(got.stdout.split('\0')))) if p.is_file()]
    hidden = {'.git', '.venv', 'runs', '_proc', '_docs', '__pycache__', '.ipynb_checkpoints'}
    return [p for p in sorted(top.rglob('*')) if p.is_file() and not hidden & set(p.relative_to(top).parts)]

def short(p): return p.relative_to(top).as_posix()

def code_cells(page):
    "Sources of the code cells of a notebook"
    return [''.join(c['source']) for c in json.loads(page.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']

def exports(src): return bool(re.search(r'^#\|\s*exports?\b', src, flags=re.M))

def public():
    "(name, object) of each function, class and method that a module of the package exports"
    for info in pkgutil.walk_packages(remember_past.__path__, 'remember_past.'):
        if info.name.rpartition('.')[2].startswith('_'): continue
        module = importlib.import_module(info.name)
        for name in getattr(module, '__all__', []):
            o = getattr(module, name)
            if not callable(o) or isinstance(o, (dict, list, tuple)): continue
            yield f'{info.name}.{name}', o
            if inspect.isclass(o):
                for m, f in vars(o).items():
                    f = f.fget if isinstance(f, property) else getattr(f, '__func__', f)
                    if not m.startswith('_') and m != 'forward' and inspect.isfunction(f) and not overrides(o, m, f): yield f'{info.name}.{name}.{m}', f

def overrides(cls, name, f):
    "Does a method stand in for one of a base class, with the same parameters? It is explained there, once"
    for base in cls.__mro__[1:]:
        g = vars(base).get(name)
        g = g.fget if isinstance(g, property) else g
        if inspect.isfunction(g): return list(inspect.signature(f).parameters) == list(inspect.signature(g).parameters)
    return False

def parameters(o):
    "Names of the parameters that a caller must know about"
    target = o.__init__ if inspect.isclass(o) and '__init__' in vars(o) else o
    try: sig = inspect.signature(target)
    except (TypeError, ValueError): return []
    return [p.name for p in sig.parameters.values() if p.name not in ('self', 'cls') and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]

def explained(o):
    "Which parameters carry a comment, seen through decorators and static methods"
    target = o.__init__ if inspect.isclass(o) and '__init__' in vars(o) and not hasattr(o, '__dataclass_fields__') else o
    try: doc = docments(inspect.unwrap(target), full=True, returns=False)
    except (TypeError, OSError, SyntaxError): return set()
    return {k for k, v in doc.items() if (v or {}).get('docment') or getattr((v or {}).get('anno'), 'help', None)}   # `Param(help)`

def test_every_parameter_is_explained():
    "A docment on each parameter of each exported function, class and method; a docstring on each"
    bad = []
    for name, o in public():
        if issubclass(o, Exception) if inspect.isclass(o) else False: continue
        missing = set(parameters(o)) - explained(o)
        if inspect.isclass(o): missing -= {k for base in o.__mro__[1:-1] for k in explained(base)}
        if missing: bad.append(f"{name}: no comment on {', '.join(sorted(missing))}")
        doc = (getattr(o, '__doc__', '') or '').strip()
        if not doc or doc.startswith(getattr(o, '__name__', '') + '('): bad.append(f'{name}: no docstring')
        elif '\n' in doc: bad.append(f'{name}: the docstring is longer than one line')
    assert not bad, '\n' + '\n'.join(bad)

def test_short_cells():
    "A cell that does not fit a screen is two ideas"
    bad = [f'{short(p)}: {len(src.splitlines())} lines: {src.strip().splitlines()[0][:60]}'
           for p in notebooks for src in code_cells(p) if len(src.splitlines()) > 45]
    assert not bad, '\n' + '\n'.join(bad)

def test_no_notebook_exports_itself():
    "`nbdev_export` on the command line makes the modules; \"Run all\" and papermill leave them alone. Paper, how-to and notes have no module"
    bad = []
    for p in notebooks:
        cells = code_cells(p)
        module, page = any(re.search(r'^#\|\s*default_exp\b', c, flags=re.M) for c in cells), p.parent.name in ('paper', 'howto', 'notes')
        if module and page: bad.append(f'{short(p)}: paper, howto and notes export nothing')
        if any(re.search(r'\bnbdev_export\(|\bnb_export\(', c) for c in cells): bad.append(f'{short(p)}: a cell exports; the command nbdev_export does')
        if not module and any(map(exports, cells)): bad.append(f'{short(p)}: exports without default_exp')
    assert not bad, '\n' + '\n'.join(bad)

def test_a_chapter_runs_anywhere(tmp_path):
    "Papermill runs a chapter from a folder that knows nothing of nbdev, and leaves every module as it was"
    import papermill
    modules = lambda: {short(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in (top/'remember_past').rglob('*.py')}
    before, done = modules(), tmp_path/'done.ipynb'
    shutil.copy(top/'nbs'/'10_errors.ipynb', tmp_path/'chapter.ipynb')
    papermill.execute_notebook(str(tmp_path/'chapter.ipynb'), str(done), cwd=str(tmp_path), kernel_name='python3', progress_bar=False)
    assert all(c['execution_count'] for c in json.loads(done.read_text())['cells'] if c['cell_type'] == 'code')
    assert modules() == before

def test_parameters_cell():
    "The first code cell of each paper notebook, and only it, is tagged `parameters`"
    bad = []
    for p in sorted((top/'nbs'/'paper').glob('*.ipynb')):
        cells = [c for c in json.loads(p.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
        tagged = [i for i, c in enumerate(cells) if 'parameters' in c['metadata'].get('tags', [])]
        if tagged != [0]: bad.append(f'{short(p)}: code cells tagged parameters: {tagged}')
        params = top/'nbs'/'paper'/'params'/f'{p.stem}.yml'
        for profile in ('quick', 'small', 'paper'):
            if not re.search(rf'^{profile}:', params.read_text(encoding='utf-8'), re.M): bad.append(f'{short(params)}: no {profile}')
    assert not bad, '\n' + '\n'.join(bad)

def test_small_files():
    "Nothing over 3 MB; a stored picture stays far below"
    bad = [f'{short(p)}: {p.stat().st_size//1000} kB' for p in files()
           if p.stat().st_size > (1_000_000 if p.suffix in ('.png', '.svg') else 3_000_000)]
    assert not bad, '\n' + '\n'.join(bad)

def test_nothing_left_behind():
    "No note to oneself, and no path of somebody's machine, in any text file"
    note = re.compile(r'\b(?:TO' + r'DO|FIX' + r'ME)\b')
    path = re.compile(r'(?<![\w.~:/<*-])/(?:home|root|Users|work)/\w[\w./-]*')
    bad = []
    for p in files():
        if p.suffix not in textual or p.stat().st_size > 2_000_000: continue
        text = p.read_text(encoding='utf-8', errors='ignore')
        bad += [f'{short(p)}: {m}' for rx in (note, path) for m in sorted(set(rx.findall(text)))]
    assert not bad, '\n' + '\n'.join(bad)

def test_oldest_python():
    "Every module parses as the oldest Python that settings.ini promises"
    version = tuple(map(int, cfg['min_python'].split('.')))
    for p in files():
        if p.suffix == '.py': ast.parse(p.read_text(encoding='utf-8'), filename=short(p), feature_version=version)

def test_version():
    "One version, in settings.ini and in the package"
    assert remember_past.__version__ == cfg['version']
    cite = yaml.safe_load((top/'CITATION.cff').read_text(encoding='utf-8'))
    assert cite['version'] == cfg['version'] and cite['preferred-citation']['year'] == 2022

def test_where_to_begin():
    "`help(remember_past)` names the first notebook and the one import, and everything in it is there"
    assert 'from remember_past.all import *' in remember_past.__doc__ and 'nbs/00_idea.ipynb' in remember_past.__doc__
    assert (top/'nbs'/'00_idea.ipynb').exists() and len(remember_past.__doc__.splitlines()) <= 16
    names = importlib.import_module('remember_past.all').__all__
    assert 10 <= len(names) <= 40 and not [n for n in names if n.startswith('_')]
    for line in re.findall(r'^    (?!from)(.*)$', remember_past.__doc__, flags=re.M):
        for name in re.findall(r'(?<![\w.])([A-Za-z]\w*)\(', line): assert name in names, name

@pytest.mark.parametrize('name', scripts)
def test_script_help(name):
    "Each command is installed and explains each of its arguments"
    got = subprocess.run([str(Path(sys.executable).parent/name), '--help'], capture_output=True, text=True, timeout=120)
    assert got.returncode == 0, got.stderr
    assert 'usage:' in got.stdout and len(got.stdout.splitlines()) > 4

def test_script_refuses():
    "A word that a command does not know ends it with a non-zero exit and no traceback"
    got = subprocess.run([str(Path(sys.executable).parent/scripts[0]), '--no-such-option'], capture_output=True, text=True, timeout=120)
    assert got.returncode != 0 and 'Traceback' not in got.stderr, got.stderr

def test_ci_can_run():
    "The script that CI calls is executable"
    assert os.access(top/'.ci'/'run', os.X_OK)
