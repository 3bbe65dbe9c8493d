"Code that somebody else has left lying about never runs: a compiled library, a notebook, a module in the current folder"
import os, subprocess, sys
from pathlib import Path
import pytest
from remember_past.engine import native as N
from remember_past.errors import BadInput
from remember_past.lab import workers as W
from remember_past.lab.repository import repo_root

ROOT, NOBODY = hasattr(os, 'geteuid') and os.geteuid() == 0, 65534
needs_compiler = pytest.mark.skipif(not N._compiler(), reason='there is no C++ compiler here')


def give_away(*paths):
    "To another user where this one may, else to everybody"
    for p in paths: os.chown(p, NOBODY, NOBODY) if ROOT else p.chmod(0o777)


def library(cwd, **env):
    code = "from remember_past.engine.native import library; lib = library('float'); print(lib.step, lib.sizes)"
    return subprocess.run([sys.executable, '-c', code], cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | env)


@needs_compiler
def test_compiled_library(tmp_path):
    "In a cache that others can reach; the planted library runs code as it is loaded, and its digest is right"
    folder, own = tmp_path/'shared'/'remember_past'/'compiled', tmp_path/'own'
    folder.mkdir(parents=True)
    name = N._build('float', '\n'.join(N.SOURCE.values()), own).stem
    planted = N._build('float', 'static int ran = __builtin_printf("planted code ran\\n");\nextern "C" long step() { return 0; }\nextern "C" void sizes() {}', tmp_path)
    for end in ('.so', '.sha256'): (folder/f'{name}{end}').write_bytes(planted.with_suffix(end).read_bytes())
    give_away(folder)
    p = library(tmp_path, XDG_CACHE_HOME=str(tmp_path/'shared'), TMPDIR=str(tmp_path))
    assert '_FuncPtr' in p.stdout and 'planted' not in p.stdout + p.stderr, p.stderr


@pytest.mark.parametrize('what', ['compiled', 'remember_past', 'shared'])
def test_cache_folder(tmp_path, monkeypatch, what):
    "Whoever owns a folder above it could put another one in its place"
    shared = tmp_path/'shared'; folder = shared/'remember_past'/'compiled'
    folder.mkdir(parents=True, mode=0o755)
    monkeypatch.setenv('XDG_CACHE_HOME', str(shared))
    N._cache_folder.cache_clear(); assert N._cache_folder() == folder
    give_away({p.name: p for p in (folder, folder.parent, shared)}[what])
    N._cache_folder.cache_clear(); assert shared not in N._cache_folder().parents
    N._cache_folder.cache_clear()


@needs_compiler
def test_damaged_library(tmp_path):
    "Cut at a page, or without one of its functions: compiled again"
    for damage in (lambda b: b[:8192], lambda b: b.replace(b'step', b'stop')):
        path = N._build('float', '\n'.join(N.SOURCE.values()), tmp_path/'remember_past'/'compiled')
        path.parent.chmod(0o700)
        path.write_bytes(damage(path.read_bytes()))
        p = library(tmp_path, XDG_CACHE_HOME=str(tmp_path))
        assert '_FuncPtr' in p.stdout, p.stderr


@pytest.mark.parametrize('what', ['home', 'settings.ini', 'paper'])
def test_repository(tmp_path, what):
    "One level up: settings and a notebook"
    home, below = tmp_path/'home', tmp_path/'home'/'below'
    below.mkdir(parents=True); (home/'nbs'/'paper').mkdir(parents=True)
    (home/'settings.ini').write_text('[DEFAULT]\nlib_name = remember_past\n')
    assert repo_root(below) == home
    give_away(dict(home=home, paper=home/'nbs'/'paper').get(what, home/what))
    with pytest.raises(BadInput, match='would run as you'): repo_root(below)


def test_module_beside(tmp_path):
    "A worker that is started where a `queue.py` lies takes Python's own, even where the package is found by the current folder only"
    for name in ('queue.py', 'torch.py', 'remember_past.py'): (tmp_path/name).write_text('print("planted code ran"); raise SystemExit(3)')
    p = subprocess.run([sys.executable, '-c', W._SCRIPT], cwd=tmp_path, input='', capture_output=True, text=True, timeout=120,
                       env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'})
    assert p.returncode == 0 and '"ready"' in p.stdout and 'planted' not in p.stdout + p.stderr, p.stdout + p.stderr
