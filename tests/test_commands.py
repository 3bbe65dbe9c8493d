"Commands answer at once, complete what is typed, and end an interrupt on a line of its own"
import inspect, os, signal, subprocess, sys, time
from pathlib import Path
import pytest
from test_repo import scripts
from remember_past.lab import commands

top = Path(__file__).resolve().parents[1]
ENV = os.environ | dict(PYTHONPATH=str(top), COLUMNS='100')
def script(name): return f'import sys; sys.argv[0] = {name!r}; from remember_past.lab.commands import {name}; {name}()'
def said(name, *words, **kw): return subprocess.run([sys.executable, '-c', script(name), *words], capture_output=True, text=True, env=ENV, **kw)


@pytest.mark.parametrize('name', scripts)
def test_help_is_light(name):
    "Help, version and completion import neither PyTorch nor numpy: half a second at most, where the machine is not busy"
    code = f'import sys; sys.argv = [{name!r}, sys.argv[1]]\nfrom remember_past.lab.commands import {name}\ntry: {name}()\nfinally: print(*sys.modules, time.process_time(), file=sys.stderr)'
    for word in '--help', '--version', '--completion':
        got = subprocess.run([sys.executable, '-c', 'import time; ' + code, word], capture_output=True, text=True, env=ENV)
        *modules, seconds = got.stderr.split()
        assert got.returncode == 0 and got.stdout and not {'torch', 'numpy', 'pandas', 'matplotlib'} & {*modules}
        assert float(seconds) < .5, f'{name} {word}: {seconds} s of processor time'


def test_what_commands_say_about_settings():
    "The file that help is read from is what the schema says"
    got = subprocess.run([sys.executable, str(top/'tools'/'readme.py'), '--check'], capture_output=True, text=True)
    assert got.returncode == 0, got.stderr


def test_rp_distill_alone(tmp_path):
    "Without a word it names three examples, makes nothing, and does not begin the paper's 50,000 iterations"
    got = said('rp_distill', cwd=tmp_path)
    assert got.returncode == 0 and got.stdout.count('\n  rp_distill ') == 3 and not list(tmp_path.iterdir())
    listed = said('rp_distill', '--list').stdout
    for word in 'cifar10', 'convnet', 'zca', 'matching gradients': assert word in listed


@pytest.mark.parametrize('typed, cursor, want', [('rp_distill --dr', 1, '--dry-run'), ('rp_distill inner_s', 1, 'inner_steps='),
                                                 ('rp_distill data = fash', 3, 'fashion_mnist'), ('rp_distill decay =', 2, 'true false')])
def test_completion(typed, cursor, want):
    lines = said('rp_distill', '--completion').stdout
    code = f'{lines}COMP_WORDS=({typed}); COMP_CWORD={cursor}; _rp_distill; echo "${{COMPREPLY[@]}}"'
    assert subprocess.run(['bash', '-c', code], capture_output=True, text=True).stdout.strip() == want


def test_hyphens():
    "One spelling for all commands, and the underscore is understood"
    for word in '--dry-run', '--dry_run':
        got = said('rp_bench', word)
        assert got.returncode == 0 and 'rounds' in got.stdout, got.stderr
    assert '--dry-run' in said('rp_bench', '--help').stdout


def test_interrupted_before_there_is_a_command():
    "Ctrl-C while the first modules are read, when no command could catch it: one sentence all the same"
    early = 'import os, signal, sys; sys.argv[0] = "/somewhere/rp_recall"; import remember_past.lab.commands; os.kill(os.getpid(), signal.SIGINT)'
    heed = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = lambda code: subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=ENV, preexec_fn=heed)
    p = ended(early)
    assert p.stderr == 'rp_recall: interrupted\n' and p.returncode == 130, p.stderr
    other = ended(early.replace('/somewhere/rp_recall', 'mine.py'))
    assert 'Traceback' in other.stderr   # who only imports the module keeps Python's own answer


def test_every_command_settles():
    "Without this call an interrupt would end the process on the spot, without a checkpoint"
    for name in commands.__all__: assert '\n    settle()\n' in inspect.getsource(inspect.unwrap(getattr(commands, name))), name


@pytest.mark.parametrize('after', [.4, 1., 1.8])
def test_interrupted_while_importing(after):
    "Ctrl-C at any time after Python itself has started: one sentence, exit 130, no traceback"
    ready = 'import sys; sys.argv[0] = "rp_distill"; from remember_past.lab.commands import rp_distill; print("ready", flush=True); rp_distill()'
    heed = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
    p = subprocess.Popen([sys.executable, '-c', ready, 'data=cifar10', '--params', 'none.yml'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV, preexec_fn=heed)
    p.stdout.readline()
    time.sleep(after*.3); p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=120)
    assert 'Traceback' not in err and err.startswith('rp_distill: ') and err.count('\n') == 1, err
    assert p.returncode in (130, 2)   # 2: it was quicker, and none.yml is not there
