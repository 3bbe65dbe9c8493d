"""Results pages: execute the notebooks of nbs/paper from the records in figures/small, and store their outputs in them.

`results.py` does all, `results.py table1 figure2` some, `results.py --check` only says which are out of step.
"""
import subprocess, sys
from pathlib import Path
from remember_past.lab.papermill import store_outputs
from remember_past.lab.params import names_at

top = Path(__file__).resolve().parent.parent

def main(names, check):
    stale = []
    for name in names or names_at(top, 'small'):
        if store_outputs(top, name, write=not check): stale.append(name)
        print(f'{name}  {"in step" if name not in stale else "out of step" if check else "stored"}', flush=True)
    if stale and not check: subprocess.run([str(Path(sys.executable).parent/'nbdev_clean'), '--fname', 'nbs/paper'], cwd=top, check=True)
    return 'stored outputs are out of step with figures/small, run `make results`' if stale and check else 0

if __name__ == '__main__': sys.exit(main([a for a in sys.argv[1:] if a != '--check'], '--check' in sys.argv))
