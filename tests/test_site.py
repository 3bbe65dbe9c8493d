"What can be known about the site without Quarto: every page processes, and everything it points at is there."
import ast, json, re, warnings
from pathlib import Path

import nbformat, pytest, yaml
from remember_past.lab.tables import results

top = Path(__file__).resolve().parent.parent
nbs = top/'nbs'
pages = sorted(p for p in nbs.rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(nbs).parts))
each_page = pytest.mark.parametrize('page', pages, ids=lambda p: p.relative_to(nbs).as_posix())

fence = re.compile(r'^ *(```|~~~).*?^ *\1', flags=re.M | re.S)
inline = re.compile(r'`[^`\n]*`')
link = re.compile(r'\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)')
reference = re.compile(r'(?<![\w@])@((?:fig|tbl|eq|sec)-[\w-]*\w)')
machine_path = re.compile(r'(?<![\w.~:/<*-])/(?:home|root|Users|work|workspace|tmp|mnt|opt|private)/\w[^\s"\']*|\b[A-Z]:\\\\?Users')

def cells(page, kind=None):
    "The cells of a page, each source as one string"
    for c in json.loads(page.read_text(encoding='utf-8'))['cells']:
        if kind in (None, c['cell_type']): yield {**c, 'source': ''.join(c['source'])}

def prose(page, code=False):
    "The markdown of a page; quoted code is left out"
    text = '\n\n'.join(c['source'] for c in cells(page, 'markdown'))
    return text if code else inline.sub('', fence.sub('', text))

def texts(page):
    "Every piece of text a reader of the page can see: sources and textual outputs"
    for c in cells(page):
        yield c['source']
        for o in c.get('outputs', []):
            yield ''.join(o.get('text', ''))
            for kind, data in o.get('data', {}).items():
                if kind.startswith('text/'): yield ''.join(data)

def anchors(page):
    "What `#name` can mean on a page: headings, explicit ids, labels, exported names"
    text = '\n'.join(c['source'] for c in cells(page))
    heads = re.findall(r'^#+\s+(.*?)\s*(?:\{.*\})?\s*$', prose(page, code=True), flags=re.M)
    slug = lambda h: re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', h.lower())).lstrip('-0123456789.')
    names = re.findall(r'^\s*(?:def|class)\s+(\w+)', text, flags=re.M)
    return {*map(slug, heads), *re.findall(r'\{#([\w-]+)', text), *labels(page), *(n.lower() for n in names)}

def labels(page):
    "Names a cross-reference may use: `#| label: fig-x` on a code cell, `{#fig-x}` in prose"
    code = '\n'.join(c['source'] for c in cells(page, 'code'))
    return re.findall(r'^#\|\s*label:\s*(\S+)', code, flags=re.M) + re.findall(r'\{#((?:fig|tbl|eq|sec)-[\w-]+)', prose(page, code=True))

def sidebar(item):
    "The notebooks a sidebar entry names, in order"
    if isinstance(item, str): return [item]
    if isinstance(item, list): return [n for i in item for n in sidebar(i)]
    return sidebar(item.get('contents', [])) + ([item['href']] if 'href' in item else [])

@each_page
def test_directives_lead(page):
    "A directive below code is a comment: nbdev and Quarto read only those at the top of a cell"
    for c in cells(page, 'code'):
        code = False
        for line in c['source'].splitlines():
            assert not (code and line.startswith('#|')), c['source']
            code = code or (bool(line.strip()) and not line.startswith(('#', '%')))

@pytest.mark.parametrize('page', sorted((nbs/'paper').glob('*.ipynb')), ids=lambda p: p.stem)
def test_results_are_shown(page):
    "The site shows stored outputs: those of profile small, of all the records that are committed now, and of nothing else"
    stored = '\n'.join(''.join(o['data'].get('text/markdown', '')) for c in cells(page, 'code') for o in c['outputs'] if 'data' in o)
    shown = {'small'} if page.stem != 'figure1' else set()  # it opens one memory, and counts no records
    assert set(re.findall(r'Profile `(\w+)`', stored)) == shown, 'run `make results`'
    found = results(top, 'small', page.stem, '/nowhere')
    have = f'{sum(bool(r["record"]) for r in found)} of {len(found)} '
    assert page.stem in ('beyond', 'cost', 'figure1') or have in stored, f'{have}have a record now: run `make results`'
    tables = stored + '\n'.join(''.join(o['data'].get('text/html', '')) for c in cells(page, 'code') for o in c['outputs'] if 'data' in o)
    assert not re.search(r'[|>]\s*not (run|measured)\s*[|<]', tables), 'what was not run is one line below the table'

def test_sidebar():
    "Each page is in the sidebar once, and each entry is a page"
    listed = sidebar(yaml.safe_load((nbs/'sidebar.yml').read_text())['website']['sidebar']['contents'])
    there = {p.relative_to(nbs).as_posix() for p in pages}
    assert len(listed) == len(set(listed)), 'an entry stands twice in nbs/sidebar.yml'
    assert not set(listed) - there, 'in nbs/sidebar.yml but not on disk'
    assert not there - set(listed), 'on disk but not in nbs/sidebar.yml'

def test_addresses():
    "nbdev drops the number from a page's address, so two pages must not meet there"
    address = lambda p: p.relative_to(nbs).with_name(re.sub(r'^\d+[a-zA-Z0-9]*_', '', p.name.lower())).as_posix()
    seen = [address(p) for p in pages]
    assert sorted(seen) == sorted(set(seen))

def test_quarto_settings():
    "nbs/_quarto.yml is the file at the top, and what it names is there (nbdev writes nbdev.yml itself)"
    assert (nbs/'_quarto.yml').resolve() == top/'_quarto.yml'
    q = yaml.safe_load((top/'_quarto.yml').read_text())
    assert q['execute'] == {'enabled': False}, 'stored outputs are the only source of the pages'
    for f in [q['format']['html']['css'], *q['metadata-files']]: assert f == 'nbdev.yml' or (nbs/f).exists(), f

@each_page
def test_format(page):
    "A valid notebook of format 4.5 or newer, without what a run leaves behind"
    nb = nbformat.read(page, as_version=nbformat.NO_CONVERT)
    nbformat.validate(nb)
    assert (nb.nbformat, nb.nbformat_minor) >= (4, 5)
    size = len(page.read_bytes())
    assert size < 500_000, f'{size//1000} kB; outputs must stay small'
    for c in cells(page):
        assert 'injected-parameters' not in c['metadata'].get('tags', []), 'an executed copy was saved over its source'
        for o in c.get('outputs', []): assert o['output_type'] != 'error', c['source']

@each_page
def test_title(page):
    "The first cell is a title and one sentence; nbdev turns it into front matter, so anything more would be lost"
    first = next(cells(page))
    assert first['cell_type'] == 'markdown'
    lines = [l for l in first['source'].splitlines() if l.strip()]
    assert re.match(r'# \S', lines[0]), lines[0]
    assert len(lines) > 1 and re.match(r'> \S', lines[1]), 'the second line is `> one sentence`'
    for l in lines[2:]: assert re.match(r'- \w[\w-]*: ', l), f'lost on the site: {l}'

@each_page
def test_links(page):
    "Each relative link and picture resolves, with its anchor"
    text = prose(page) + '\n'.join(''.join(o['data'].get('text/markdown', '')) for c in cells(page, 'code')
                                   for o in c['outputs'] if 'data' in o)
    bad = []
    for target in link.findall(text):
        if re.match(r'[a-z][a-z+.-]*:', target): continue
        path, _, anchor = target.partition('#')
        file = (page.parent/path).resolve() if path else page
        if path.startswith('attachment:'): continue
        if not file.exists() or top not in file.parents: bad.append(target)
        elif anchor and file.suffix == '.ipynb' and anchor not in anchors(file): bad.append(target)
    assert not bad, bad

@each_page
def test_cross_references(page):
    "Each @fig-x is defined once on its own page, and each labelled figure has a caption"
    defined = labels(page)
    assert len(defined) == len(set(defined)), 'a label stands twice'
    assert not set(reference.findall(prose(page))) - set(defined)
    for c in cells(page, 'code'):
        for kind in re.findall(r'^#\|\s*label:\s*(fig|tbl)-', c['source'], flags=re.M):
            assert re.search(rf'^#\|\s*{kind}-cap:\s*\S', c['source'], flags=re.M), c['source']

@each_page
def test_no_machine_paths(page):
    "No page shows where somebody keeps their files"
    found = [m for t in texts(page) for m in machine_path.findall(t)]
    assert not found, found

@each_page
def test_imports_stand_alone(page):
    "On a page with exports the site builder runs each cell that holds an import: such a cell does nothing else"
    if not any(re.search(r'^#\|\s*exports?\b', c['source'], flags=re.M) for c in cells(page, 'code')): return
    for c in cells(page, 'code'):
        if re.search(r'^#\|\s*(hide|exports?|exporti)\b', c['source'], flags=re.M) or 'nbdev_export()' in c['source']: continue
        if not re.search(r'^\s*(import|from)\s', c['source'], flags=re.M): continue
        body = ast.parse(re.sub(r'^\s*[%!].*$', '', c['source'], flags=re.M)).body
        kinds = {isinstance(b, (ast.Import, ast.ImportFrom)) for b in body}
        assert kinds != {True, False}, c['source']

@each_page
def test_processes(page, monkeypatch):
    "nbdev's own processors take the page as the site builder would, with every signature table it asks for"
    from execnb.nbio import read_nb
    from nbdev.processors import FilterDefaults
    monkeypatch.chdir(nbs)
    monkeypatch.setenv('IN_TEST', '1')
    nb = read_nb(page)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        FilterDefaults()(nb)
    assert nb.frontmatter_['title'] and nb.frontmatter_['description']
    shown = [c for c in nb.cells if c.cell_type == 'code' and (c.get('source') or '').find('show_doc(') >= 0]
    empty = [c.source for c in shown if not c.get('outputs')]
    assert not empty, empty

def test_home_page():
    "A picture with words for those who cannot see it, at most eight rows of results, few words; and README shows the same"
    index, readme = nbs/'index.ipynb', (top/'README.md').read_text(encoding='utf-8')
    text = fence.sub('', prose(index, code=True))
    (alt, picture), = re.findall(r'!\[([^\]]*)\]\(([^)]+)\)', text)
    assert len(alt.split()) >= 8 and (nbs/picture).stat().st_size <= 60_000
    assert f'![{alt}](nbs/{picture})' in readme[:800], 'the picture is above the fold of README.md'
    words = re.sub(r'\]\([^)]*\)', ']', text.replace(f'![{alt}]', '')).split()
    assert len(words) <= 500, f'{len(words)} words of prose'
    rows = [l for c in cells(index, 'code') for o in c['outputs'] for l in ''.join(o.get('data', {}).get('text/markdown', '')).splitlines()]
    assert 3 <= len(rows) <= 2+8 and rows[2] in readme.replace('](nbs/', ']('), 'the results are stored and shown'
    assert '.md)' not in text and 'figures/quick' not in text

def test_idea_stands_alone():
    "The paper in plain PyTorch: no module, and nothing of ours before the section that compares"
    code = [c['source'] for c in cells(nbs/'00_idea.ipynb', 'code')]
    ours = [i for i, c in enumerate(code) if 'remember_past' in c]
    learn = next(i for i, c in enumerate(code) if 'def learn' in c)
    assert len(ours) == 1 and learn < ours[0] and not any('default_exp' in c for c in code)
    lines = [l for c in code[:learn+1] for l in c.splitlines() if l.strip() and not l.lstrip().startswith(('#', '"'))]
    assert len(lines) <= 50, f'{len(lines)} lines up to Algorithm 1'
