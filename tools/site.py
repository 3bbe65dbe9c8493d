"""The site, with Quarto: nbdev prepares the notebooks in _proc/, Quarto renders them, the pages land in _docs/.

It does not use `nbdev_docs`, because that would write README.md its own way and offer to install Quarto by itself.
Stored outputs are the only source of the pages; nothing is executed but the imports that `show_doc` needs.
"""
import re, shutil, subprocess, sys
from pathlib import Path

top = Path(__file__).resolve().parent.parent
proc, docs = top/'_proc', top/'_docs'

def main():
    if not shutil.which('quarto'):
        sys.exit('the site needs Quarto 1.4 or newer: install it from quarto.org (the package registries do not have it), then run `make docs` again')
    nbdev = Path(sys.executable).parent/'nbdev_proc_nbs'
    shutil.rmtree(proc, ignore_errors=True)   # links are rewritten below, so every page starts from its notebook
    subprocess.run([str(nbdev)], cwd=top, check=True)
    # figures/, LICENSE and CITATION.cff lie beside nbs/ in the repository and inside the site on the web
    for name in 'LICENSE', 'CITATION.cff': shutil.copy(top/name, proc)
    if (top/'figures').exists(): shutil.copytree(top/'figures', proc/'figures', dirs_exist_ok=True)
    for page in proc.rglob('*.ipynb'):
        text = page.read_text(encoding='utf-8')
        page.write_text(re.sub(r'\.\./((?:\.\./)*(?:figures/|LICENSE|CITATION))', r'\1', text), encoding='utf-8')
    subprocess.run(['quarto', 'render', '--no-cache', '--no-execute'], cwd=proc, check=True)
    shutil.rmtree(docs, ignore_errors=True)
    shutil.move(proc/'_docs', docs)
    print(f'the site is in {docs.relative_to(top)}/, open {docs.name}/index.html')

if __name__ == '__main__': main()
