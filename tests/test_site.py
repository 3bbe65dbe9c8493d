"The site. Without Quarto: every page processes, and everything it points at is there. With Quarto on the PATH it is built and crawled."
import ast, functools, http.server, importlib.util, json, os, re, shutil, subprocess, sys, threading, warnings
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat, pytest, yaml
from remember_past.lab.results import results

top = Path(__file__).resolve().parent.parent
nbs = top/'nbs'
pages = sorted(p for p in nbs.rglob('*.ipynb') if not any(part[0] in '._' for part in p.relative_to(nbs).parts))
spec = importlib.util.spec_from_file_location('tools_site', top/'tools'/'site.py')
site = importlib.util.module_from_spec(spec); spec.loader.exec_module(site)
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

@each_page
def test_what_prints_is_stored(page):
    "The site shows stored outputs, so a shown cell that prints has one"
    for c in cells(page, 'code'):
        words = set(re.findall(r'^#\|\s*([\w ]+)', c['source'], flags=re.M))
        if words & {'hide', 'slow', 'cuda'} or '#| eval: false' in c['source']: continue
        assert c['outputs'] or not re.search(r'^print\(', c['source'], flags=re.M), f'run this cell and keep its output:\n{c["source"]}'

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
    "On a page with exports the site builder runs each cell that holds an import: such a cell does nothing else, or is hidden and begins with it"
    if not any(re.search(r'^#\|\s*exports?\b', c['source'], flags=re.M) for c in cells(page, 'code')): return
    for c in cells(page, 'code'):
        if re.search(r'^#\|\s*(exports?|exporti)\b', c['source'], flags=re.M): continue
        if not re.search(r'^\s*(import|from)\s', c['source'], flags=re.M): continue
        body = ast.parse(re.sub(r'^\s*[%!].*$', '', c['source'], flags=re.M)).body
        if re.search(r'^#\|\s*hide\b', c['source'], flags=re.M):
            assert isinstance(body[0], (ast.Import, ast.ImportFrom)), c['source']
            continue
        kinds = {isinstance(b, (ast.Import, ast.ImportFrom)) for b in body}
        assert kinds != {True, False}, c['source']

@each_page
def test_processes(page, monkeypatch):
    "nbdev's own processors take the page as the site builder would, with every signature table it asks for"
    from execnb.nbio import nb2dict, read_nb
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
    done = json.loads(json.dumps(nb2dict(nb)))
    site.finish(done, page.relative_to(nbs), table := site.symbols())
    pages_there = {site.address(p.relative_to(nbs)) for p in pages}
    for c in done['cells']:
        assert not any('text/html' in o.get('data', {}) for o in c.get('outputs') or []), 'Quarto would fetch jQuery for it'
        for text in [c.get('source') or ''] + [o['data']['text/markdown'] for o in c.get('outputs') or [] if 'text/markdown' in o.get('data', {})]:
            text = ''.join(text)
            assert '](' not in ''.join(m[0] for m in re.finditer(r'```.*?```', text, re.S)) or c['cell_type'] == 'markdown', 'a link inside a signature'
            assert 'example.org' not in text, text[:300]
            assert not re.search(r'\[\[[^\]]*\]\(', text), 'a link inside a link'
            for to in re.findall(r'\]\(([^)#\s]*\.html)#[^)]*\)', text):
                assert os.path.normpath(page.relative_to(nbs).parent/to) in pages_there, to

def test_what_is_linked():
    "Names that the page knows; not words that happen to be names, not code, not links, not names of two things"
    assert {'Memory.recall', 'budget_planner'} < set(site.symbols()) and 'Resumable' not in site.symbols()  # which has no anchor on its page
    table = {'many': 'a.html#many', 'Memory.recall': 'memory.html#memory.recall', 'scale_of': 'b.html#scale_of'}
    say = lambda text, known=(): site.linked(text, Path('paper/table1.ipynb'), set(known), table)
    assert say('the stream `many`') == 'the stream `many`' and say('`many`', {'many'}) == '[`many`](../a.html#many)'
    assert say('`Memory.recall()`') == '[`Memory.recall()`](../memory.html#memory.recall)'
    for same in ('[`Memory.recall`](x.ipynb)', '```python\ndef f(m): # see `Memory.recall`\n```', '``a `Memory.recall` b``', '`unknown`', '`scale`'): assert say(same) == same

@each_page
def test_pictures_have_words(page):
    "For those who cannot see them: `fig-alt` on a cell that shows a picture, words in the brackets of `![..](..)`"
    for c in cells(page, 'code'):
        if not any(k.startswith('image/') for o in c['outputs'] for k in o.get('data', {})): continue
        alt = re.search(r'^#\|\s*fig-alt:\s*"(.+)"', c['source'], flags=re.M)
        assert alt and len(alt[1].split()) >= 5, c['source'][:200]
    assert not re.search(r'!\[\s*\]\(', prose(page)), 'a picture without words'

def test_llms():
    "llms.txt names every page"
    text = site.llms()
    assert all(f']({site.address(p.relative_to(nbs))}): ' in text for p in pages)

def test_one_public_home():
    "settings.ini says where the repository and the site will be, and nobody else does"
    for p in [*pages, top/'_quarto.yml', nbs/'styles.css', nbs/'sidebar.yml', top/'README.md', *(top/'tools').glob('*.py')]:
        assert not re.search(r'https?://[\w.]*example\.org', p.read_text(encoding='utf-8')), p

def test_home_page():
    "A picture with words for those who cannot see it, at most eight rows of results, few words; and README shows the same"
    index, readme = nbs/'index.ipynb', (top/'README.md').read_text(encoding='utf-8')
    text = fence.sub('', prose(index, code=True))
    (alt, picture), = re.findall(r'!\[([^\]]*)\]\(([^)]+)\)', text)
    assert len(alt.split()) >= 8 and (nbs/picture).stat().st_size <= 60_000
    assert f'![{alt}](nbs/{picture})' in readme[:800], 'the picture is above the fold of README.md'
    words = re.sub(r'<[^>]*>', '', re.sub(r'\]\([^)]*\)', ']', text.replace(f'![{alt}]', ''))).split()  # neither addresses nor markup
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


class Page(HTMLParser):
    "What a reader, a crawler and a screen reader find on a built page"
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.pictures, self.said, self.code, self.title, self.open = [], set(), [], [], [], '', []
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag not in ('img', 'meta', 'link', 'br', 'hr', 'input', 'col', 'source', 'wbr'): self.open.append(tag)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        if tag == 'img': self.pictures.append((a.get('src', ''), a.get('alt')))
        if tag in ('a', 'img', 'script', 'link', 'source') and (to := a.get('href') or a.get('src')): self.links.append((tag, a.get('rel'), to))
    def handle_endtag(self, tag):
        if tag in self.open: del self.open[len(self.open) - 1 - self.open[::-1].index(tag):]
    def handle_data(self, data):
        if 'title' in self.open and 'svg' not in self.open: self.title += data
        if 'script' in self.open or 'style' in self.open or 'head' in self.open: return
        (self.code if {'pre', 'code'} & set(self.open) or re.search(r'\\[(\[]|\$', data) else self.said).append(data)

@pytest.fixture(scope='module')
def built():
    "The site as Quarto makes it from this tree"
    if not shutil.which('quarto'): pytest.skip('Quarto is not on the PATH, so there is no built site to crawl')
    done = subprocess.run([sys.executable, top/'tools'/'site.py'], cwd=top, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return {p.relative_to(top/'_docs').as_posix(): Page(p.read_text(encoding='utf-8')) for p in (top/'_docs').rglob('*.html')}

def test_built_links(built):
    "No dead link and no dead anchor inside the site"
    bad = []
    for name, page in built.items():
        for tag, rel, to in page.links:
            if re.match(r'[a-z][a-z+.-]*:|//', to) or to in ('#', ''): continue
            path, _, anchor = unquote(to).partition('#')
            file = os.path.normpath(os.path.join(os.path.dirname(name), path.partition('?')[0])) if path else name
            if not (top/'_docs'/file).exists(): bad.append(f'{name}: {to}')
            elif anchor and file in built and anchor not in built[file].ids: bad.append(f'{name}: {to}')
    assert not bad, f'{len(bad)} dead links:\n' + '\n'.join(bad[:20])

def test_built_pages_read_well(built):
    "Nothing of Markdown is left in prose or signatures, each page has a title of its own, each picture its words"
    raw = [f'{n}: {t.strip()[:90]}' for n, p in built.items() for t in p.said if re.search(r'\]\(|^:::|\*\*\w|^#+ ', t)]
    raw += [f'{n}: {t.strip()[:90]}' for n, p in built.items() for t in p.code if re.search(r'\]\((?:https?:|[\w./]+\.(?:html|ipynb))', t)
            and not t.startswith('---\nlibrary_name')]  # the page of the Hub prints a model card, which is Markdown
    assert not raw, f'{len(raw)} left-overs:\n' + '\n'.join(raw[:20])
    silent = [f'{n}: {src[:80]}' for n, p in built.items() for src, alt in p.pictures if not (alt or '').strip() and not src.startswith('data:image/svg')]
    assert not silent, f'{len(silent)} pictures without words:\n' + '\n'.join(silent[:20])
    titles = [p.title.strip() for p in built.values()]
    assert all(titles) and len(titles) == len(set(titles)), [t for t in titles if titles.count(t) > 1]

def test_built_home_is_named_once(built):
    "example.org stands only where the public home will: in links that begin with the repository or the site of settings.ini"
    home = [site.setting('git_url'), site.setting('doc_host') + site.setting('doc_baseurl')]
    links = [f'{n}: {to}' for n, p in built.items() for _, _, to in p.links if 'example.org' in to and not to.startswith(tuple(home))]
    assert not links + [n for n, p in built.items() if any('example.org' in t for t in p.said)], links[:20]
    assert (top/'_docs'/'llms.txt').read_text(encoding='utf-8') == site.llms()

def test_built_loads_nothing_from_elsewhere(built):
    "Scripts, styles, fonts and pictures all lie on the site"
    bad = [f'{n}: {to}' for n, p in built.items() for tag, rel, to in p.links
           if (tag in ('script', 'img', 'source') or tag == 'link' and rel in ('stylesheet', 'icon', 'preconnect')) and re.match(r'https?:|//', to)]
    bad += [p.name for p in (top/'_docs').rglob('*.css') if re.search(r'(@import[^;]*|url\([\'"]?)https?:', p.read_text(encoding='utf-8'))]
    assert not bad, f'{len(bad)} from elsewhere:\n' + '\n'.join(bad[:20])

def test_built_pages_fit_a_phone(built):
    "On a plain static server and 390 pixels wide: no page scrolls sideways (what is wider scrolls in a box of its own), and none logs an error"
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    if not (shutil.which('chromium') and shutil.which('chromedriver')): pytest.skip('chromium and chromium-driver are not installed')
    options = webdriver.ChromeOptions()
    options.binary_location, options.page_load_strategy = shutil.which('chromium'), 'eager'
    for word in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'): options.add_argument(word)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(top/'_docs')))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    b, bad = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which('chromedriver'))), []
    try:
        b.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=390, height=800, deviceScaleFactor=1, mobile=True))
        for name in sorted(built):
            b.get(f'http://127.0.0.1:{server.server_port}/{name}')
            if (w := b.execute_script('return document.documentElement.scrollWidth')) > 390: bad.append(f'{name}: {w} pixels')
            bad += [f'{name}: {e["message"][:200]}' for e in b.get_log('browser') if e['level'] == 'SEVERE']
    finally: b.quit(); server.shutdown()
    assert not bad, f'{len(bad)} faults:\n' + '\n'.join(bad[:20])

def test_built_weight(built):
    assert sum(p.stat().st_size for p in (top/'_docs').rglob('*') if p.is_file()) < 30*10**6
