"JupyterLab in a real browser: explorer, training monitor and budget planner open; a slider moves, the picture changes, pixels stay square"
import base64, io, json, os, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import matplotlib.image as mpimg, numpy as np, pytest, torch
from remember_past.memory import Memory
from remember_past.show.explorer import explore

top = Path(__file__).resolve().parent.parent
MEMORY = '''import torch
from remember_past.memory import Memory
memory = Memory.addressed(K=5, ipc=2, shape=(1, 8, 12), classes=list('abc'), scale=1)
'''
MONITOR = '''from remember_past.all import *
from remember_past.show.monitor import TrainingMonitor
ds = load_data('digits')
start = Memory.addressed(K=6, ipc=1, shape=ds.shape, classes=ds.classes, scale=1)
with TrainingMonitor(seconds=0) as monitor:
    distill(start, ds.x_train, ds.y_train, MLP(ds.shape, 10, widths=(16,)), monitor, iterations=3, inner_steps=5, inner_lr=.1, real_per_class=8)
'''

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "Address of a notebook in a JupyterLab of our own"
    if not (shutil.which('chromium') and shutil.which('chromedriver')): pytest.skip('chromium and chromium-driver are not installed')
    for module in ('selenium', 'jupyterlab', 'jupyterlab_widgets'): pytest.importorskip(module)
    home = tmp_path_factory.mktemp('lab')
    cell = lambda source: dict(cell_type='code', id=f'c{abs(hash(source))}'[:8], metadata={}, execution_count=None, outputs=[], source=source)
    nb = dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')),
              cells=[cell(MEMORY), cell('from remember_past.show.explorer import explore\nexplore(memory, y=1)'), cell(MONITOR),
                     cell("from remember_past.show.planner import budget_planner\nbudget_planner('digits', K=3, scale=1)")])
    (home/'explore.ipynb').write_text(json.dumps(nb))
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != 'IN_TEST'}
    env |= dict(PYTHONPATH=str(top), JUPYTER_CONFIG_DIR=str(home/'config'), JUPYTER_RUNTIME_DIR=str(home/'runtime'), IPYTHONDIR=str(home/'ipython'))
    words = [f'--port={port}', '--ip=127.0.0.1', '--no-browser', '--allow-root', '--IdentityProvider.token=', '--ServerApp.password=', '--expose-app-in-browser',
             f'--ServerApp.root_dir={home}', '--ServerApp.port_retries=0', '--LabApp.news_url=', '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate']
    log = (home/'log').open('w')
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', *words], env=env, stdout=log, stderr=log)
    base = f'http://127.0.0.1:{port}'
    try:
        for _ in range(600):
            try: urllib.request.urlopen(f'{base}/api/status', timeout=5); break
            except OSError: assert server.poll() is None, (home/'log').read_text()[-2000:]; time.sleep(.3)
        yield f'{base}/lab/tree/explore.ipynb'
    finally: server.terminate(); server.wait(30)

RUN_ALL = '''const done = arguments[0], app = window.jupyterapp, session = app.shell.currentWidget.sessionContext;
(async () => {
    await session.ready;
    if (!session.session?.kernel) await session.changeKernel({name: 'python3'});   // else it would ask which one
    await session.session.kernel.info;
    await app.commands.execute('notebook:run-all-cells');
    done('ran');
})().catch(e => done(String(e)))'''

@pytest.fixture(scope='module')
def browser(lab):
    "The notebook in Chromium, with all its cells run"
    from selenium import webdriver
    from selenium.webdriver.support.ui import WebDriverWait
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for word in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--window-size=1300,3000'): options.add_argument(word)
    b = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which('chromedriver')))
    b.set_script_timeout(300)
    try:
        b.get(lab)
        there = "return !!window.jupyterapp && !!document.querySelector('.jp-Notebook .jp-Cell')"
        WebDriverWait(b, 300).until(lambda b: b.execute_script(there))
        assert b.execute_async_script(RUN_ALL) == 'ran'
        yield b
    finally: b.quit()

PICTURE = '''const done = arguments[0], img = document.querySelector('.rp-pixels');
fetch(img.src).then(r => r.arrayBuffer()).then(a => done(btoa(String.fromCharCode(...new Uint8Array(a)))))'''

def picture(b): return mpimg.imread(io.BytesIO(base64.b64decode(b.execute_async_script(PICTURE))), format='png')

def test_a_slider_moves_the_picture(browser):
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
    b, names = browser, {}
    exec(MEMORY, names)
    here = explore(names['memory'], y=1, live=True)              # the same explorer, without a browser
    wait, text = WebDriverWait(b, 300), lambda: b.execute_script("return document.querySelector('.jp-Notebook')?.innerText")
    shown = "const i = document.querySelector('.rp-pixels'); return !!i && i.complete && i.naturalWidth > 0"
    try: wait.until(lambda b: b.execute_script(shown))
    except TimeoutException: raise AssertionError(f'no explorer in the notebook, which says: {text()}')
    expected = lambda: mpimg.imread(io.BytesIO(here.picture.value), format='png')
    before = picture(b)
    np.testing.assert_array_equal(before, expected())
    box = b.execute_script('''const i = document.querySelector('.rp-pixels'), r = i.getBoundingClientRect();
        return [r.width, r.height, i.naturalWidth, i.naturalHeight, getComputedStyle(i).imageRendering]''')
    assert box[0]/box[1] == pytest.approx(box[2]/box[3], rel=.01) and box[0] >= 160, f'the picture is stretched: {box}'
    assert box[4] == 'pixelated'
    handle = b.find_elements(By.CSS_SELECTOR, '.rp-explorer .noUi-handle')[1]   # the first is the image number, then the coefficients
    handle.send_keys(*[Keys.ARROW_RIGHT]*7)
    readout = lambda: b.find_elements(By.CSS_SELECTOR, '.rp-explorer .widget-readout')[1].text
    start = here.sliders[0].value
    wait.until(lambda b: readout() != f'{start:+.2f}' and (picture(b).shape != before.shape or (picture(b) != before).any()))
    here.sliders[0].value = start + 7*here.sliders[0].step
    wait.until(lambda b: picture(b).shape == expected().shape and np.allclose(picture(b), expected(), atol=1.5/255))

def test_monitor_and_planner_show_what_they_say(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
    b, wait = browser, WebDriverWait(browser, 300)
    said = lambda name: b.execute_script(f"return document.querySelector('.{name} .widget-html-content')?.innerText || ''")
    wait.until(lambda b: said('rp-monitor').startswith('iteration 3 of 3, loss '))
    sizes = b.execute_script("return [...document.querySelectorAll('.rp-monitor img')].map(i => [i.naturalWidth, i.width/i.height*i.naturalHeight/i.naturalWidth])")
    assert len(sizes) == 2 and all(w > 100 and abs(ratio - 1) < .02 for w, ratio in sizes), sizes
    wait.until(lambda b: '3 bases and ' in said('rp-planner'))
    b.find_elements(By.CSS_SELECTOR, '.rp-planner .noUi-handle')[0].send_keys(*[Keys.ARROW_RIGHT]*2)
    wait.until(lambda b: '5 bases and 6 addressing matrices' in said('rp-planner'))   # (640 - 5*64)/(10*5)
