"The built wheel in an environment of its own, outside the repository: all commands answer there, and a memory of MNIST comes along"
import ast, email, os, shutil, subprocess, sys, sysconfig, zipfile
from pathlib import Path
import pytest

top = Path(__file__).resolve().parents[1]
needed = ('settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CITATION.cff')


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "Built from a copy, so that no build/ of an earlier day gets in; what the build needs is here already"
    home = tmp_path_factory.mktemp('tree')
    for f in needed: shutil.copy(top/f, home)
    shutil.copytree(top/'remember_past', home/'remember_past', symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copytree(top/'nbs'/'paper'/'params', home/'nbs'/'paper'/'params')
    (home/'tools').mkdir(); shutil.copy(top/'tools'/'stubs.py', home/'tools')
    got = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-index', '--no-build-isolation', '-w', home/'dist', home],
                         capture_output=True, text=True)
    if got.returncode: pytest.skip(f'a wheel cannot be built here: {got.stderr.strip().splitlines()[-1][:200]}')
    return next((home/'dist').glob('*.whl'))


@pytest.fixture(scope='module')
def elsewhere(wheel, tmp_path_factory):
    "A function that runs a command of the installed wheel in an empty folder; torch and the rest are borrowed from this environment"
    home = tmp_path_factory.mktemp('elsewhere')
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', home/'venv'], check=True)
    site = next((home/'venv').glob('lib/python*/site-packages'))
    (site/'borrowed.pth').write_text(sysconfig.get_paths()['purelib'] + '\n')   # as a path only: its own .pth files, and our editable install, are not read
    subprocess.run([sys.executable, '-m', 'pip', '--python', home/'venv/bin/python', 'install', '-q', '--no-deps', '--no-index', '--no-warn-script-location', wheel],
                   check=True, capture_output=True)
    (home/'work').mkdir()
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST')} | dict(REMEMBER_PAST_DATA=str(home/'data'), HOME=str(home), MPLBACKEND='agg')

    def run(name, *args, code=0):
        got = subprocess.run([home/'venv/bin'/name, *map(str, args)], cwd=home/'work', env=env, capture_output=True, text=True)
        assert got.returncode == code and 'Traceback' not in got.stderr, (name, args, got.returncode, got.stdout, got.stderr)
        return got.stdout + got.stderr
    run.site, run.work = site, home/'work'
    return run


def test_what_it_carries(wheel):
    "Parameter files, a memory, types; its page says where the repository is, and every link of it leads there"
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        page = email.message_from_bytes(z.read(next(n for n in names if n.endswith('METADATA'))))
    for p in (top/'nbs'/'paper'/'params').glob('*.yml'): assert f'remember_past/params/{p.name}' in names
    assert {'remember_past/memories/mnist-1ipc.safetensors', 'remember_past/py.typed', 'remember_past/lab/settings.json'} <= {*names}
    assert sum(z.file_size for z in zipfile.ZipFile(wheel).infolist()) < 4_000_000 and not [n for n in names if n.startswith(('tests', 'nbs', 'build'))]
    urls = dict(u.split(', ') for u in page.get_all('Project-URL'))
    assert {'Repository', 'Documentation', 'Issues', 'Changelog'} <= {*urls} and urls['Issues'].startswith(urls['Repository'])
    assert 'Typing :: Typed' in page.get_all('Classifier') and {'hub', 'log', 'dev'} <= {*page.get_all('Provides-Extra')}
    assert '](nbs/' not in page.get_payload() and f'{urls["Repository"]}/raw/main/nbs/images/idea.png' in page.get_payload()


def test_types(wheel):
    "Each module has a .pyi that Python can read; methods that fastcore patches in stand inside their classes, and what a reader calls has types"
    with zipfile.ZipFile(wheel) as z: stubs = {n: ast.parse(z.read(n)) for n in z.namelist() if n.endswith('.pyi')}
    assert {f'remember_past/{m}.pyi' for m in ('all', '__init__', 'memory', 'distill', 'lab/settings')} <= {*stubs}
    classes = {c.name: {f.name: ast.unparse(f) for f in c.body if isinstance(f, ast.FunctionDef)} for t in stubs.values() for c in t.body if isinstance(c, ast.ClassDef)}
    from remember_past.all import Dataset, Distiller, Memory
    for c in Memory, Dataset, Distiller:
        lacking = {n for n, f in vars(c).items() if callable(f) or isinstance(f, (property, classmethod))} - {*classes[c.__name__]} - {'__class_getitem__'}
        assert not [n for n in lacking if not n.startswith('_')], (c, lacking)
    assert '@property' in classes['Memory']['floats'] and '@classmethod' in classes['Memory']['addressed'] and classes['Memory']['recall'].startswith('def recall(self, y: Tensor | None=...) -> tuple')


def test_a_memory_anywhere(elsewhere):
    "Offline, in an empty folder"
    assert str(elsewhere.site) in elsewhere('python', '-c', 'import remember_past; print(remember_past.__file__)')
    assert elsewhere('rp_recall', '--version').startswith('remember_past ')
    said = elsewhere('rp_recall', 'mnist-1ipc')
    assert 'recall.png: 290 images of 10 classes from 7776 floats' in said and 'Warning' not in said
    assert (elsewhere.work/'recall.png').read_bytes()[:4] == b'\x89PNG'
    elsewhere('rp_recall', 'mnist-1ipc', '--to', 'images')
    assert len([*(elsewhere.work/'images').glob('[0-9]/*.png')]) == 290
    assert 'did you mean mnist-1ipc?' in elsewhere('rp_recall', 'mnist-ipc1', code=2)


def test_distil_and_evaluate(elsewhere):
    "From images to a memory file and its accuracy, and the record stands"
    said = elsewhere('rp_distill', 'data=digits', 'method=bptt', 'whiten=standardize', 'net=mlp', 'width=16', 'iterations=3', 'inner_steps=5', 'eval_nets=2', 'eval_epochs=5')
    assert 'memory.safetensors: 640 floats' in said
    assert '% on digits with mlp' in elsewhere('rp_evaluate', 'memory.safetensors', '--nets', 1)
    assert 'digits: here' in elsewhere('rp_data') and 'mnist: not here' in elsewhere('rp_data')


def test_tables_without_notebooks(elsewhere):
    "The experiments of a table are made outside a clone, too; the notebook that lays them out is the repository's, and the command says where that is"
    said = elsewhere('rp_status', 'table1')
    assert 'digits' in said and 'missing' in said
    (elsewhere.site/'remember_past/params/table1.yml').write_text(
        'quick:\n  defaults: {data: digits, ipc: 1, whiten: none, net: mlp, width: 8, eval_nets: 1, eval_epochs: 2}\n  experiments: [{method: random}]\n')
    said = elsewhere('rp_reproduce', 'table1')
    assert 'random' in said and 'git clone https://' in said and (elsewhere.work/'runs').is_dir()
    assert 'git clone https://' in elsewhere('rp_reproduce', 'table1', '--publish', code=2)
