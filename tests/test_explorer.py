"JupyterLab in a real browser: it opens the explorer, a slider moves, the picture changes, and pixels stay square"
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

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "Address of a notebook in a JupyterLab of our own"
    if not (shutil.which('chromium') and shutil.which('chromedriver')): pytest.skip('chromium and chromium-driver are not installed')
    for module in ('selenium', 'jupyterlab', 'jupyterlab_widgets'): pytest.importorskip(module)
    home = tmp_path_factory.mktemp('lab')
    cell = lambda source: dict(cell_type='code', id=source[:4].strip(), metadata={}, execution_count=None, outputs=[], source=source)
    nb = dict(nbformat=4, nbformat_minor=5, metadata=dict(kernelspec=dict(name='python3', display_name='Python 3', language='python')),
              cells=[cell(MEMORY), cell('from remember_past.show.explorer import explore\nexplore(memory, y=1)')])
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

@pytest.fixture
def browser(lab):
    from selenium import webdriver
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which('chromium')
    for word in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--window-size=1300,1000'): options.add_argument(word)
    b = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which('chromedriver')))
    b.set_script_timeout(300)
    yield b
    b.quit()

RUN_ALL = '''const done = arguments[0], app = window.jupyterapp, session = app.shell.currentWidget.sessionContext;
(async () => {
    await session.ready;
    if (!session.session?.kernel) await session.changeKernel({name: 'python3'});   // else it would ask which one
    await session.session.kernel.info;
    await app.commands.execute('notebook:run-all-cells');
    done('ran');
})().catch(e => done(String(e)))'''
PICTURE = '''const done = arguments[0], img = document.querySelector('.rp-pixels');
fetch(img.src).then(r => r.arrayBuffer()).then(a => done(btoa(String.fromCharCode(...new Uint8Array(a)))))'''

def picture(b): return mpimg.imread(io.BytesIO(base64.b64decode(b.execute_async_script(PICTURE))), format='png')

def test_a_slider_moves_the_picture(lab, browser):
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
    b, names = browser, {}
    exec(MEMORY, names)
    here = explore(names['memory'], y=1, live=True)              # the same explorer, without a browser
    b.get(lab)
    wait, text = WebDriverWait(b, 300), lambda: b.execute_script("return document.querySelector('.jp-Notebook')?.innerText")
    wait.until(lambda b: b.execute_script("return !!window.jupyterapp && !!document.querySelector('.jp-Notebook .jp-Cell')"))
    assert b.execute_async_script(RUN_ALL) == 'ran'
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
    handle = b.find_elements(By.CSS_SELECTOR, '.widget-vbox .noUi-handle')[1]   # the first is the image number, then the coefficients
    handle.send_keys(*[Keys.ARROW_RIGHT]*7)
    readout = lambda: b.find_elements(By.CSS_SELECTOR, '.widget-vbox .widget-readout')[1].text
    start = here.sliders[0].value
    wait.until(lambda b: readout() != f'{start:+.2f}' and (picture(b).shape != before.shape or (picture(b) != before).any()))
    here.sliders[0].value = start + 7*here.sliders[0].step
    wait.until(lambda b: picture(b).shape == expected().shape and np.allclose(picture(b), expected(), atol=1.5/255))
