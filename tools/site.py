"""The site, with Quarto: nbdev prepares the notebooks in _proc/, Quarto renders them, the pages land in _docs/.

It does not use `nbdev_docs`, because that would write README.md its own way and offer to install Quarto by itself.
Stored outputs are the only source of the pages; nothing is executed but the imports that `show_doc` needs.
nbdev's own links to symbols are switched off in settings.ini (`skip_procs`): they are absolute, and reach into signatures.
`finish` makes relative ones, and leaves code and other links alone.
"""
import ast, configparser, functools, importlib.util, json, os, re, shutil, subprocess, sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent
proc, docs = top/'_proc', top/'_docs'
quoted = re.compile(r'(?P<keep>```.*?```|~~~.*?~~~|``.*?``|!?\[[^\]\n]*\]\([^)\n]*\))|(?<!`)`(?P<name>[A-Za-z_][\w.]*)(?:\(\))?`(?!`)', re.S)
source_link = re.compile(r'\[source\]\([^)]*\)\{[^}]*\}\n*')
picture = re.compile(r'^!\[([^\]"]+)\]\(([^)\s]+)\)$', re.M)  # alone on its line: Quarto would make its words a caption
outside = re.compile(r'\.\./((?:\.\./)*(?:figures/|LICENSE|CITATION))')  # beside nbs/ in the repository, inside the site on the web

def setting(key):
    "A value of settings.ini"
    config = configparser.ConfigParser()
    config.read(top/'settings.ini', encoding='utf-8')
    return config['DEFAULT'][key]

def at_home(): return 'example.org' not in setting('git_url')  # has the repository a public home?

@functools.cache
def with_anchor():
    "Names that have an anchor on their page: what a module exports to everybody, and what `show_doc` shows"
    texts = [p.read_text(encoding='utf-8') for p in (top/'remember_past').rglob('*.py')]
    names = {n for t in texts for m in re.findall(r'^__all__ = (\[.*?\])', t, re.M | re.S) for n in ast.literal_eval(m)}
    return names | {n for p in (top/'nbs').rglob('*.ipynb') for n in re.findall(r'show_doc\((\w+)', p.read_text(encoding='utf-8'))}

def symbols():
    "Each name of the package that stands for one thing -> its page and anchor, and the module that it lives in"
    text = (top/'remember_past'/'_modidx.py').read_text(encoding='utf-8')
    index, found = ast.literal_eval(text[text.index('{'):]), {}
    for module, names in index['syms'].items():
        for name, (address, _) in names.items():
            short = name.removeprefix(module + '.')
            if '__' not in short and short.split('.')[0] in with_anchor(): found.setdefault(short, set()).add(address)
    return {n: next(iter(a)) for n, a in found.items() if len(a) == 1}

def known_to(cells):
    "The names that a page imports or defines: only these are linked when they are plain words such as `many` or `scale`"
    names = set()
    for c in cells:
        if c['cell_type'] != 'code': continue
        source = re.sub(r'^\s*[%!].*$', '', ''.join(c['source']), flags=re.M)
        try: tree = ast.parse(source)
        except SyntaxError: continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom): names |= {a.asname or a.name for a in node.names}
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)): names.add(node.name)
            elif isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'show_doc' and isinstance(node.args[0], ast.Name): names.add(node.args[0].id)
    return names

def linked(text, page, known, table):
    "`name` becomes a link to its page; code, signatures and links stay as they are"
    def one(m):
        name = m['name']
        if m['keep'] or name not in table: return m[0]
        if name.islower() and not {name, name.split('.')[0]} & known: return m[0]
        target, _, anchor = table[name].partition('#')
        here = os.path.relpath(target, page.parent.as_posix() or '.')
        return f'[{m[0]}]({here}#{anchor})'
    return quoted.sub(one, text)

def finish(nb, page, table):
    "Links of a processed notebook (a dict), in place; `page` is its path in the site"
    known = known_to(nb['cells'])
    whole = lambda v: ''.join(v) if isinstance(v, list) else v
    def mend(text):
        text = linked(whole(text) if at_home() else source_link.sub('', whole(text)), page, known, table)
        text = picture.sub(r'![](\2){fig-alt="\1"}', text)
        return outside.sub(r'\1', text).splitlines(keepends=True)  # Quarto wants lines
    for c in nb['cells']:
        if c['cell_type'] == 'markdown': c['source'] = mend(c['source'])
        for o in c.get('outputs') or []:
            data = o.get('data', {})
            if 'text/markdown' in data: data['text/markdown'] = mend(data['text/markdown'])
            elif 'text/html' in data:  # as a raw block, or Quarto takes it for a widget and calls jQuery and require.js from a CDN
                data['text/markdown'] = ['```{=html}\n', *whole(data.pop('text/html')).rstrip().splitlines(keepends=True), '\n```\n']

def bar():
    "Repository and \"report an issue\" in the top bar, as more lines of nbdev.yml"
    home = setting('git_url')
    return (f'  navbar:\n    right:\n      - {{icon: git, href: "{home}", aria-label: Repository}}\n'
            f'      - {{text: Report an issue, href: "{home}/issues/new"}}\n')

def front(page):
    "Title and description of a notebook"
    lines = ''.join(json.loads(page.read_text(encoding='utf-8'))['cells'][0]['source']).splitlines()
    text = [l for l in lines if l.strip()]
    return text[0].removeprefix('# '), text[1].removeprefix('> ')

def sidebar():
    "Sections of the sidebar with their pages, in order"
    import yaml
    contents = yaml.safe_load((top/'nbs'/'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    alone = [c if isinstance(c, str) else c['href'] for c in contents if isinstance(c, str) or 'href' in c]
    return {'Start here': alone} | {c['section']: c['contents'] for c in contents if isinstance(c, dict) and 'section' in c}

def address(name):
    "nbs/02_memory.ipynb is memory.html: nbdev drops the number"
    p = Path(name)
    return p.with_name(re.sub(r'^\d+[a-zA-Z0-9]*_', '', p.name)).with_suffix('.html').as_posix()

def llms():
    "llms.txt: what is where, for a reader that is a program"
    title, said = front(top/'nbs'/'index.ipynb')
    parts = [f'# {title}\n\n> {said}\n\n{setting("description")}. Every page is a notebook of the repository.']
    for section, pages in sidebar().items():
        parts.append(f'## {section}\n\n' + '\n'.join('- [{}]({}): {}'.format(*(t := front(top/'nbs'/p))[:1], address(p), t[1]) for p in pages))
    return '\n\n'.join(parts) + '\n'

def library():
    "TensorFlow.js beside the pages that compute; where it can't be had, the page that needs it says so"
    spec = importlib.util.spec_from_file_location('tools_live', top/'tools'/'live.py')
    live = importlib.util.module_from_spec(spec); spec.loader.exec_module(live)
    if why := live.fetch_library(): print(f'note: {why}', file=sys.stderr)

def prepare():
    "_proc/ as Quarto wants it"
    library()
    nbdev = Path(sys.executable).parent/'nbdev_proc_nbs'
    shutil.rmtree(proc, ignore_errors=True)   # links are rewritten below, so every page starts from its notebook
    quiet = {'PYTHONWARNINGS': 'ignore:Found cells containing imports:UserWarning'}  # it means hidden cells too; tests/test_site.py knows better
    subprocess.run([str(nbdev)], cwd=top, check=True, env={**os.environ, **quiet})
    for name in 'LICENSE', 'CITATION.cff': shutil.copy(top/name, proc)
    if (top/'figures').exists(): shutil.copytree(top/'figures', proc/'figures', dirs_exist_ok=True)
    with (proc/'nbdev.yml').open('a', encoding='utf-8') as f: f.write(bar())
    table = symbols()
    for page in proc.rglob('*.ipynb'):
        nb = json.loads(page.read_text(encoding='utf-8'))
        finish(nb, page.relative_to(proc), table)
        page.write_text(json.dumps(nb), encoding='utf-8')

def main():
    if not shutil.which('quarto'):
        sys.exit('the site needs Quarto 1.4 or newer: install it from quarto.org (the package registries do not have it), then run `make docs` again')
    prepare()
    subprocess.run(['quarto', 'render', '--no-cache', '--no-execute'], cwd=proc, check=True)
    (proc/'_docs'/'llms.txt').write_text(llms(), encoding='utf-8')
    shutil.rmtree(docs, ignore_errors=True)
    shutil.move(proc/'_docs', docs)
    print(f'the site is in {docs.relative_to(top)}/, open {docs.name}/index.html')

if __name__ == '__main__': main()
