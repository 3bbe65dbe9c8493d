"The home page's picture from a memory of MNIST in this repository: nbs/images/idea.png, and idea_phone.png for narrow screens"
import sys
from pathlib import Path
import matplotlib; matplotlib.use('agg')
import matplotlib.pyplot as plt, numpy as np, torch
from matplotlib.patches import Rectangle
from PIL import Image
from remember_past.memory import Memory
from remember_past.show.pictures import sheet, to_pixels

top = Path(__file__).resolve().parent.parent
source = top/'figures'/'small'/'memories'/'mnist-ipc1-full-seed0-9bfaeaeb.safetensors'
digit, matrix, shown = 2, 0, 8

# sizes in inches; boxes (left, bottom, width, height) of query, addressing matrix, bases and images; arrows (x, y, sign)
WIDE = dict(size=(8, 1.95), query=(.02, .13, .05, .7), address=(.1, .13, .25, .7), bases=(.395, .13, .2, .7), images=(.64, .13, .35, .7),
            arrows=((.083, .48, '→'), (.374, .48, '→'), (.618, .48, '→')))
PHONE = dict(size=(3.6, 3.9), query=(.05, .57, .11, .35), address=(.24, .57, .74, .35), bases=(.01, .06, .37, .35), images=(.48, .06, .51, .35),
             arrows=((.195, .74, '→'), (.43, .485, '↙'), (.43, .23, '→')))

def panel(fig, box, title, below=''):
    "An empty square of the figure with words above and below"
    ax = fig.add_axes(box)
    ax.set_title(title, fontsize=9, pad=6)
    ax.text(.5, -.04, below, transform=ax.transAxes, ha='center', va='top', fontsize=7.5, color='0.35')
    ax.set_xticks([]); ax.set_yticks([])
    for s in ax.spines.values(): s.set_visible(False)
    return ax

def draw(m, layout):
    "Query, address, bases, images: Eq. 2 in the order of the arrows"
    x, A = m.recall(torch.tensor([digit]))[0], m.coefs[matrix].detach().numpy()
    hot = np.zeros((m.d_y, 1))
    hot[digit] = 1
    fig = plt.figure(figsize=layout['size'], dpi=200)
    ax = panel(fig, layout['query'], f'query “{digit}”', 'one-hot')
    ax.imshow(hot, cmap='Greys', vmin=0, vmax=1.3)
    for c in range(m.d_y):
        ax.add_patch(Rectangle((-.5, c-.5), 1, 1, fill=False, lw=.5, ec='0.6', clip_on=False))
        ax.text(-.8, c, str(c), fontsize=6, ha='right', va='center')
    ax = panel(fig, layout['address'], 'an addressing matrix', f'one of {m.r}; row {digit} is the address')
    ax.imshow(A, cmap='RdBu', vmin=-abs(A).max(), vmax=abs(A).max(), aspect='equal', interpolation='nearest')
    ax.add_patch(Rectangle((-.5, digit-.5), m.K, 1, fill=False, lw=1.6, ec='black', clip_on=False))
    ax = panel(fig, layout['bases'], f'{m.K} shared bases', 'mixed as the address says')
    ax.imshow(sheet(to_pixels(m.bases*1e3), 4, 2), interpolation='nearest')
    ax = panel(fig, layout['images'], f'recalled: images of a {digit}', f'{shown} of {m.r}, one for each matrix')
    ax.imshow(sheet(to_pixels(x[:shown], m.whitening), 4, 3), interpolation='nearest')
    for x, y, sign in layout['arrows']: fig.text(x, y, sign, fontsize=15, ha='center', va='center')
    return fig

def save(fig, path):
    "As PNG of 256 colours, which is half the bytes"
    fig.canvas.draw()
    Image.fromarray(np.asarray(fig.canvas.buffer_rgba())[..., :3]).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    return path

def main(folder=top/'nbs'/'images'):
    folder.mkdir(exist_ok=True)
    m = Memory.load(source)
    return [save(draw(m, layout), folder/name) for name, layout in (('idea.png', WIDE), ('idea_phone.png', PHONE))]

if __name__ == '__main__': print(*main(*map(Path, sys.argv[1:])))
