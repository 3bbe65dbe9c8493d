"In a real terminal of 80 and of 40 columns: one line that is overwritten, and Ctrl-C on a line of its own"
import os, shutil, subprocess, sys, time
from pathlib import Path
import pytest

pytestmark = pytest.mark.skipif(not shutil.which('tmux'), reason='tmux is not installed')
top = Path(__file__).resolve().parents[1]
SCRIPT = '''
import sys, time
from remember_past.lab.progress import Line
from remember_past.lab.settings import complete
from remember_past.errors import one_sentence
some = [complete(data='digits', whiten='standardize', bases=b, scale=1) for b in (6, 7)]
@one_sentence
def rp_show():
    line = Line(some); line.start(0); line.end('81.5 %'); line.start(1)
    for i in range(10**6):
        line(dict(stage='distil', done=i + 1, of=4000, loss=2/(i + 1), seconds_left=4000 - i)); time.sleep(.05)
rp_show()
'''


def screen(name): return subprocess.run(['tmux', '-L', name, 'capture-pane', '-p', '-t', name], capture_output=True, text=True).stdout.rstrip('\n').split('\n')

def until(see, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not see(): time.sleep(.3)
    return see()


@pytest.mark.parametrize('columns', [80, 40])
def test_one_line(tmp_path, columns):
    name = f'rp{os.getpid()}w{columns}'
    (tmp_path/'show.py').write_text(SCRIPT)
    env = ['-e', f'PYTHONPATH={top}', '-e', 'OMP_NUM_THREADS=1']
    subprocess.run(['tmux', '-L', name, '-f', '/dev/null', 'new-session', '-d', '-s', name, '-x', str(columns), '-y', '14', *env,
                    f'{sys.executable} {tmp_path}/show.py; sleep 600'], check=True)
    try:
        assert until(lambda: any('/4000' in l for l in screen(name))), screen(name)
        time.sleep(1.5)
        lines = screen(name)
        live = [l for l in lines if '/4000' in l]
        assert len(live) == 1 and 'left' in live[0] and len(live[0]) < columns, lines   # overwritten, not wrapped
        assert sum('81.5 %' in l for l in lines) == 1, lines                              # what has ended stays, above it
        assert lines.index(live[0]) == len(lines) - 1, lines
        subprocess.run(['tmux', '-L', name, 'send-keys', '-t', name, 'C-c'])
        assert until(lambda: any(l.startswith('rp_show: interrupted') for l in screen(name)), 20), screen(name)
    finally: subprocess.run(['tmux', '-L', name, 'kill-session', '-t', name])
