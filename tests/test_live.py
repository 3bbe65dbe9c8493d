"""The pages that compute: they read what the committed memories give, and a real browser moves, compares, trains and draws as it should.

A browser is Debian's chromium with chromium-driver; where there is none, the tests that need it are skipped. Training is measured in
processor time of the browser, so that a busy machine makes it slow but not red.
"""
import base64, functools, http.server, importlib.util, json, os, shutil, threading, time
from pathlib import Path

import numpy as np, pytest, torch
from remember_past.show.live import page_memory, page_recall
from remember_past.show.pictures import to_pixels
from remember_past.show.similarity import similarity_matrix

top = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location('tools_live', top/'tools'/'live.py')
live = importlib.util.module_from_spec(spec); spec.loader.exec_module(live)
memory = live.memory_of('mnist')
notebooks = {'address': 'paper/figure1', 'train': 'howto/train_on_memory', 'similarity': 'paper/figure2'}

def test_files_are_what_the_memories_give():
    assert not live.stale(), 'run `make live`'

def test_shipped_numbers_recall_the_same_images():
    page = json.loads((top/'nbs/live/mnist.json').read_text())
    coefs = np.frombuffer(base64.b64decode(page['coefs']), '<f4').reshape(page['r'], len(page['classes']), page['K'])
    want = memory.whitening.invert(memory.recall()[0]).numpy()
    np.testing.assert_allclose(page_recall(page, coefs.transpose(1, 0, 2).reshape(-1, page['K'])), want, atol=1e-5)

def test_shipped_digits_are_digits():
    x = live.read_digits()
    assert x.shape == (10*live.PER_CLASS, 28, 28) and len(np.unique(x.reshape(len(x), -1), axis=0)) == len(x)
    assert (x.max(axis=(1, 2)) > 200).all() and (np.median(x, axis=(1, 2)) == 0).all()

@pytest.mark.parametrize('name', notebooks)
def test_page_has_a_still_picture(name):
    "GitHub and JupyterLab drop the frame, papermill runs nothing in it: the notebook has its own picture, and a link"
    cells = json.loads((top/f'nbs/{notebooks[name]}.ipynb').read_text())['cells']
    here = [i for i, c in enumerate(cells) if f'<iframe src="../live/{name}.html"' in ''.join(c['source'])]
    assert len(here) == 1 and cells[here[0]]['cell_type'] == 'markdown' and f'](../live/{name}.html)' in ''.join(cells[here[0]]['source'])
    assert any('image/png' in o.get('data', {}) for c in cells for o in c.get('outputs', []))

def test_home_has_a_page_that_computes():
    "On the site; README.md is the same text without the frame"
    assert '<iframe src="live/address.html"' in (top/'nbs/index.ipynb').read_text().replace('\\"', '"')
    assert '<iframe' not in (top/'README.md').read_text()

def test_library_is_refused_when_it_is_another(tmp_path, monkeypatch):
    "A registry that hands out something else, and no npm at all"
    npm = tmp_path/'npm'
    npm.write_text('#!/bin/sh\nmkdir -p package/dist && echo "alert()" > package/dist/tf.min.js && tar czf "$4/tf.tgz" package\n')
    npm.chmod(0o755)
    monkeypatch.setattr(live, 'live', tmp_path)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    assert 'not the file that we know' in live.fetch_library() and not (tmp_path/'tf.min.js').exists()
    npm.write_text('#!/bin/sh\necho "E404 no such package" >&2; exit 1\n')
    assert 'E404' in live.fetch_library()
    monkeypatch.setenv('PATH', str(tmp_path/'empty'))
    assert 'npm is not on the PATH' in live.fetch_library()

class Site(http.server.SimpleHTTPRequestHandler):
    "nbs/ as a plain static server shows it; /frame/NAME is a page of the site around NAME"
    missing = ()
    def log_message(self, *a): pass
    def end_headers(self): self.send_header('Cache-Control', 'no-store'); super().end_headers()
    def do_GET(self):
        name = self.path.partition('?')[0].rpartition('/')[2]
        if name in self.missing: return self.send_error(404)
        if not self.path.startswith('/frame/'): return super().do_GET()
        self.send_response(200); self.send_header('Content-Type', 'text/html'); self.end_headers()
        frame = f'<iframe src="/live/{name}.html" style="width: 100%; height: 90px">'
        self.wfile.write(f'<!doctype html><link rel="icon" href="data:,"><body class="quarto-light">{frame}'.encode())

@pytest.fixture(scope='module')
def browser():
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not (chromium and driver): pytest.skip('chromium and chromium-driver are not installed')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'): options.add_argument(word)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Site, directory=str(top/'nbs')))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    b = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    b.home = f'http://127.0.0.1:{server.server_port}'
    yield b
    b.quit(); server.shutdown()

def until(b, js, seconds=120):
    "Wait for a JavaScript expression to be true, and give its value"
    from selenium.webdriver.support.ui import WebDriverWait
    return WebDriverWait(b, seconds).until(lambda b: b.execute_script(f'return {js}'))

def text(b, name): return b.execute_script(f"return document.getElementById('{name}').textContent")

def visit(b, address, ready, width=390):
    b.get_log('browser')
    b.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=800, deviceScaleFactor=1, mobile=width < 500))
    b.get(b.home + address)
    until(b, ready)

def in_order(b):
    "No sideways scroll, a name for everything that can be operated, no error"
    assert b.execute_script('return document.documentElement.scrollWidth - document.documentElement.clientWidth') <= 0
    operated = "[...document.querySelectorAll('input, select, button, canvas:not([aria-hidden])')]"
    assert b.execute_script(f'return {operated}.every(e => e.labels?.length || e.ariaLabel || e.textContent)')
    assert [e for e in b.get_log('browser') if e['level'] == 'SEVERE'] == []

def press(b, *keys):
    "Keys for whatever has the focus: no mouse"
    b.switch_to.active_element.send_keys(*keys)

def walk_to(b, js, most=60):
    "Press Tab until the focus is where a JavaScript expression says"
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys
    for _ in range(most):
        if b.execute_script(f'return document.activeElement === {js}'): return
        ActionChains(b).send_keys(Keys.TAB).perform()
    raise AssertionError(f'the keyboard does not reach {js}')

def drawn(b, name='image'):
    "A canvas, 28 x 28, 0 to 255"
    js = f"const c = document.getElementById('{name}'); return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    return np.array(b.execute_script(js)).reshape(28, 28, 4)[..., 0]

def expected(v):
    "What Python draws for K coefficients"
    x = memory.recall()[0].new_tensor(page_recall(page_memory(memory), v[None]))
    return to_pixels(x)[0, ..., 0]*255

def test_address_by_keyboard(browser):
    "Class, slider, average, random and reset, on a phone's width and without a mouse; each picture is what Python recalls"
    from selenium.webdriver.common.keys import Keys
    b = browser
    visit(b, '/live/address.html', f"document.querySelectorAll('#sliders input').length === {memory.K}")
    until(b, "document.getElementById('says').textContent.includes('image')")
    press(b, '3')
    np.testing.assert_allclose(drawn(b), expected(memory.coefs[0, 3]), atol=.51)
    press(b, '7')
    np.testing.assert_allclose(drawn(b), to_pixels(memory.recall(torch.tensor([7]))[0][:1], memory.whitening)[0, ..., 0]*255, atol=.51)
    before = drawn(b)
    walk_to(b, "document.querySelectorAll('#sliders input')[2]")
    press(b, *[Keys.ARROW_RIGHT]*5)
    v = memory.coefs[0, 7].clone(); v[2] = float(b.switch_to.active_element.get_property('value'))
    assert v[2] > memory.coefs[0, 7, 2] and (drawn(b) != before).any()
    np.testing.assert_allclose(drawn(b), expected(v), atol=.51)
    walk_to(b, "document.getElementById('other')"); press(b, '5')
    np.testing.assert_allclose(drawn(b), expected((memory.coefs[0, 7] + memory.coefs[0, 5])/2), atol=.51)
    walk_to(b, "document.getElementById('random')"); press(b, Keys.ENTER)
    assert (drawn(b) != before).any()
    walk_to(b, "document.getElementById('reset')"); press(b, Keys.ENTER)
    np.testing.assert_array_equal(drawn(b), before)
    walk_to(b, "document.getElementById('which')"); press(b, Keys.ARROW_RIGHT)
    np.testing.assert_allclose(drawn(b), expected(memory.coefs[1, 7]), atol=.51)
    in_order(b)

@pytest.mark.parametrize('name', notebooks)
def test_frame_follows_the_site(browser, name):
    "The dark switch around a frame reaches the page in it, and nothing scrolls inside"
    b = browser
    visit(b, f'/frame/{name}', "frames[0]?.document.documentElement.dataset.theme", width=900)
    ground = 'frames[0].getComputedStyle(frames[0].document.body).backgroundColor'
    assert b.execute_script(f'return {ground}') == 'rgb(255, 255, 255)'
    b.execute_script("document.body.className = 'quarto-dark'")
    until(b, f"{ground} === 'rgb(34, 34, 34)'")
    until(b, "frames[0].innerHeight > 300 && frames[0].innerHeight >= frames[0].document.documentElement.scrollHeight")

def test_similarity_by_pointer_and_keyboard(browser):
    "The parts add up to the cosine that Python finds, for the pair that is pointed at or walked to"
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    b = browser
    visit(b, '/live/similarity.html', "document.querySelectorAll('#bases canvas').length")
    cifar = live.memory_of('cifar10')
    S, names = similarity_matrix(cifar.mean_coefs()), cifar.classes
    number = lambda t: float(t.replace('\u2212', '-'))
    def shown(i, j):
        assert text(b, 'pair').startswith(f'{names[i]} and {names[j]}: ')
        assert abs(number(text(b, 'pair').split()[-1]) - float(S[i, j])) < .006
        adds = [number(e.text) for e in b.find_elements(By.CSS_SELECTOR, '#bases td.number')]
        assert len(adds) == cifar.K and adds == sorted(adds, reverse=True) and abs(sum(adds) - float(S[i, j])) < .005*cifar.K
    shown(names.index('cat'), names.index('dog'))                     # it begins with the most similar pair
    at = lambda i, j: b.find_element(By.CSS_SELECTOR, f'#matrix tbody tr:nth-child({i + 1}) td:nth-child({j + 2}) button')
    ActionChains(b).move_to_element(at(1, 9)).perform(); shown(1, 9)
    walk_to(b, "document.querySelector('#matrix [tabindex=\"0\"]')")
    press(b, Keys.ARROW_DOWN); press(b, Keys.ARROW_LEFT); shown(2, 8)
    walk_to(b, "document.getElementById('memory')"); press(b, 'M')
    until(b, "document.getElementById('pair').textContent.match(/^\\d and \\d/)")
    in_order(b)

def test_train_says_what_is_missing(browser):
    "Without TensorFlow.js the page says so in one sentence; its pictures and the drawing remain"
    Site.missing = ('tf.min.js',)
    try: visit(browser, '/live/train.html?without', "document.getElementById('says').textContent.includes('cannot run')")
    finally: Site.missing = ()
    assert browser.execute_script("return document.getElementById('train').disabled && document.getElementById('recalled').width === 29*28")
    browser.get_log('browser')

def cpu_seconds(b):
    "Processor time that the browser has used, all its processes together"
    def family(p):
        kids = [int(k) for t in os.listdir(f'/proc/{p}/task') for k in Path(f'/proc/{p}/task/{t}/children').read_text().split()]
        return [p] + [q for k in kids for q in family(k)]
    stat = [Path(f'/proc/{p}/stat').read_text().rpartition(')')[2].split() for p in family(b.service.process.pid)]
    return sum(int(s[11]) + int(s[12]) for s in stat)/os.sysconf('SC_CLK_TCK')

@pytest.fixture(scope='module')
def trained(browser):
    "The page after training on TensorFlow.js's CPU backend, started with the keyboard; and the processor time that took"
    from selenium.webdriver.common.keys import Keys
    why = live.fetch_library()
    if why: pytest.skip(why)
    if not Path('/proc/self/stat').exists(): pytest.skip('processor time is read from /proc')
    visit(browser, '/live/train.html?backend=cpu', "!document.getElementById('train').disabled")
    assert 'on the processor' in text(browser, 'says')
    walk_to(browser, "document.getElementById('train')")
    start = cpu_seconds(browser)
    press(browser, Keys.ENTER)
    while not text(browser, 'says').startswith('Trained'):
        assert cpu_seconds(browser) - start < 120, text(browser, 'says')
        time.sleep(.5)
    return browser, cpu_seconds(browser) - start

def test_training_reaches_90_percent(trained):
    "290 recalled images, two minutes of processor time at most, 90 % of 300 real test digits"
    b, seconds = trained
    right = float(text(b, 'accuracy').split()[0])
    print(f'{right} % of the test digits in {seconds:.0f} s of processor time: {text(b, "says")}')
    assert 90 <= right <= 100 and seconds < 120
    assert float(text(b, 'loss')) < .5 and b.execute_script("return document.getElementById('losses').getAttribute('d')").count('L') > 20
    in_order(b)

def answered(b, before=''):
    js = "document.getElementById('answer').textContent"
    return until(b, f"{js} !== {json.dumps(before)} && {js}.startsWith('The network reads') && {js}")

def test_drawn_digits_are_answered(trained):
    "A one and a zero by mouse, a one by keyboard: the network reads them; and Clear takes everything away"
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    b, _ = trained
    square, clear = b.find_element(By.ID, 'drawing'), b.find_element(By.ID, 'clear')
    def stroke(points):
        (x, y), *rest = points
        pen = ActionChains(b).move_to_element_with_offset(square, x, y).click_and_hold()
        for p, q in zip(points, rest): pen.move_by_offset(q[0] - p[0], q[1] - p[1])
        pen.release().perform()
    said = []
    stroke([(5, -90), (2, -30), (-2, 30), (-5, 90)]); said.append(answered(b))
    assert drawn(b, 'seen').max() > 200 and abs(drawn(b, 'seen').argmax(1).mean() - 9) < 9
    scores = [float(e.text.split()[0]) for e in b.find_elements(By.CSS_SELECTOR, '#scores td.number')]
    assert len(scores) == 10 and abs(sum(scores) - 100) < 1
    clear.click(); assert text(b, 'answer').startswith('Nothing') and drawn(b, 'seen').max() == 0
    stroke([(round(55*np.cos(t)), round(-85*np.sin(t))) for t in np.linspace(1.5, 1.5 + 2*np.pi, 25)]); said.append(answered(b))
    clear.click()
    walk_to(b, "document.getElementById('drawing')")
    press(b, *[Keys.ARROW_UP]*6, ' ', *[Keys.ARROW_DOWN]*12, ' '); said.append(answered(b))
    assert [s.split()[4] for s in said] == ['1,', '0,', '1,'], said
    press(b, Keys.DELETE); assert text(b, 'answer').startswith('Nothing')
    in_order(b)
