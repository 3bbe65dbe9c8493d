"The page that recalls: its numbers are those of the committed memory, and a real browser draws what `Memory.recall` gives"
import base64, functools, http.server, json, shutil, threading
from pathlib import Path

import numpy as np, pytest, torch
from remember_past.memory import Memory
from remember_past.show.live import page_memory, page_recall
from remember_past.show.pictures import to_pixels

top = Path(__file__).resolve().parent.parent
memory = Memory.load(next((top/'figures/small/memories').glob('mnist-ipc1-full-*.safetensors')))

def test_file_is_what_the_function_makes():
    assert json.loads((top/'nbs/live/mnist.json').read_text()) == page_memory(memory), 'write json.dumps(page_memory(memory)) to nbs/live/mnist.json'

def test_shipped_numbers_recall_the_same_images():
    page = json.loads((top/'nbs/live/mnist.json').read_text())
    coefs = np.frombuffer(base64.b64decode(page['coefs']), '<f4').reshape(page['r'], len(page['classes']), page['K'])
    want = memory.whitening.invert(memory.recall()[0]).numpy()
    np.testing.assert_allclose(page_recall(page, coefs.transpose(1, 0, 2).reshape(-1, page['K'])), want, atol=1e-5)

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass

@pytest.fixture(scope='module')
def browser():
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed')
    chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
    if not (chromium and driver): pytest.skip('chromium and chromium-driver are not installed')
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'): options.add_argument(word)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(top/'nbs')))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    b = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    b.home = f'http://127.0.0.1:{server.server_port}/live/address.html'
    yield b
    b.quit(); server.shutdown()

def drawn(b):
    "The canvas, 28 x 28, 0 to 255"
    js = "const c = document.getElementById('image'); return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
    return np.array(b.execute_script(js)).reshape(28, 28, 4)[..., 0]

def expected(v):
    "What Python draws for K coefficients"
    x = memory.recall()[0].new_tensor(page_recall(page_memory(memory), v[None]))
    return to_pixels(x)[0, ..., 0]*255

def test_browser_draws_what_recall_gives(browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait
    b = browser
    b.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=390, height=800, deviceScaleFactor=1, mobile=True))
    b.get(b.home)
    WebDriverWait(b, 60).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, '#sliders input')) == memory.K and drawn_ready(b))
    np.testing.assert_allclose(drawn(b), expected(memory.coefs[0, 3]), atol=.51)
    want = to_pixels(memory.recall(torch.tensor([7]))[0][:1], memory.whitening)[0, ..., 0]*255
    body = b.find_element(By.TAG_NAME, 'body')
    body.send_keys('7')                                               # the keyboard alone: a class ..
    np.testing.assert_allclose(drawn(b), want, atol=.51)
    slider, before = b.find_elements(By.CSS_SELECTOR, '#sliders input')[2], drawn(b)
    slider.send_keys(*[Keys.ARROW_RIGHT]*5)                           # .. a coefficient ..
    v = memory.coefs[0, 7].clone(); v[2] = float(slider.get_property('value'))
    assert v[2] > memory.coefs[0, 7, 2] and (drawn(b) != before).any()
    np.testing.assert_allclose(drawn(b), expected(v), atol=.51)
    b.find_element(By.ID, 'average').send_keys(Keys.ENTER)            # .. and the buttons
    np.testing.assert_allclose(drawn(b), expected((memory.coefs[0, 7] + memory.coefs[0, 4])/2), atol=.51)
    b.find_element(By.ID, 'random').send_keys(Keys.ENTER)
    assert (drawn(b) != before).any()
    b.find_element(By.ID, 'reset').send_keys(Keys.ENTER)
    np.testing.assert_array_equal(drawn(b), before)
    assert b.execute_script('return document.documentElement.scrollWidth') <= 390
    assert b.execute_script("return [...document.querySelectorAll('input, select, button')].every(e => e.labels?.length || e.ariaLabel || e.textContent)")
    assert [e for e in b.get_log('browser') if e['level'] == 'SEVERE'] == []

def drawn_ready(b): return b.execute_script("return document.getElementById('says').textContent.includes('image 1')")
