"""Distil a data set into a small addressed memory, recall it, and train networks on what comes back.

    from remember_past.all import *

    ds  = load_data('digits')
    net = ConvNet(ds.shape, ds.n_classes, width=32, depth=2)
    mem = distill(Memory.addressed(K=6, ipc=1, shape=ds.shape, classes=ds.classes, scale=1), ds.x_train, ds.y_train, net, iterations=100)
    evaluate(mem, net, ds.x_test, ds.y_test)['mean']     # accuracy of fresh networks in percent

The method:  addressing (Eq. 2), memory (Eq. 4), bptt (the inner loop and its derivative), distill (Algorithm 1), evaluate
Around it:   data, nets, train, engine (what computes a step), show (pictures), lab (experiments, tables, commands)
Each module is exported from a notebook of the same name under nbs/; begin with nbs/00_idea.ipynb.
"""
__version__ = "0.1.0"
