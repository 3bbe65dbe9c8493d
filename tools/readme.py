"""README.md from nbs/index.ipynb, without Quarto, and what commands say about settings, from the schema.
`readme.py` writes both, `readme.py --check` compares."""
import json, os, re, sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent
source, target = top/'nbs'/'index.ipynb', top/'README.md'
kept = top/'remember_past'/'lab'/'settings.json'
link = re.compile(r'(\]\()([^)\s]+)(\))')
frame = re.compile(r'\s*<iframe.*?</iframe>', re.S)   # a page that computes: only the site shows it

def moved(match):
    "A link that held in nbs/ as it must read one folder up"
    path, hash_, anchor = match[2].partition('#')
    if not path or re.match(r'[a-z]+:', path): return match[0]
    return match[1] + os.path.normpath(os.path.join('nbs', path)) + hash_ + anchor + match[3]

def directives(cell):
    "The `#|` words at the top of a code cell"
    return {m[1] for m in re.finditer(r'^#\|\s*(\S+?):?(?:\s|$)', cell['source'], flags=re.M)}

def fenced(text, lang=''):
    "A fenced block; empty text gives nothing"
    text = re.sub(r'\x1b\[[0-9;]*m', '', text).rstrip('\n')
    return f'```{lang}\n{text}\n```' if text.strip() else ''

def output(o):
    "One stored output as markdown; pictures are left to links, a README carries no data of its own"
    if o['output_type'] == 'stream': return fenced(''.join(o['text'])) if o['name'] == 'stdout' else ''
    data = o.get('data', {})
    if 'text/markdown' in data: return link.sub(moved, ''.join(data['text/markdown']).strip())
    if any(k.startswith('image/') for k in data): return ''
    return fenced(''.join(data.get('text/plain', '')))

def code(cell):
    "A code cell and what it printed"
    words = directives(cell)
    if words & {'hide', 'default_exp'}: return []
    lines = [l for l in cell['source'].splitlines() if not l.startswith('#|')]
    shown = [] if 'echo' in words else [fenced('\n'.join(lines), 'python')]
    return shown + [output(o) for o in cell['outputs']]

def render():
    "The whole page as one string"
    parts = ['<!-- written from nbs/index.ipynb by `make readme`; edit the notebook -->']
    for cell in json.loads(source.read_text(encoding='utf-8'))['cells']:
        cell['source'] = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown': parts.append(link.sub(moved, frame.sub('', cell['source'])))
        elif cell['cell_type'] == 'code': parts += code(cell)
    return '\n\n'.join(p for p in parts if p) + '\n'

def described():
    "What `rp_distill --help` and `--list` say, so that they need not import the schema"
    sys.path.insert(0, str(top))
    from remember_past.lab.all_settings import described
    return json.dumps(described(), indent=1, ensure_ascii=False) + '\n'

if __name__ == '__main__':
    for path, new in (target, render()), (kept, described()):
        if sys.argv[1:] != ['--check']: path.write_text(new, encoding='utf-8')
        elif not path.exists() or path.read_text(encoding='utf-8') != new:
            sys.exit(f'{path.name} is out of step with the notebooks, run `make readme`')
    if sys.argv[1:] == ['--check']: print('README.md and settings.json in step')
