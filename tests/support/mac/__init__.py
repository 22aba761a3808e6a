"""A stand-in for what coremltools has on a Mac and lacks elsewhere: its compiled bindings.

coremltools itself is the real package. Only ``coremltools.libcoremlpython``, which calls Core ML, is
replaced, by :mod:`support.mac.libcoremlpython`. It behaves as the published source of the bindings
(``coremlpython/`` in coremltools 9.0) and the errors that users of Core ML report. ML programs are
executed with the kernels of ``latbench verify``. Nothing here knows how Core ML itself computes,
where, or how long it takes.

* :func:`support.coreml.on_a_mac` replaces it in the process of a test.
* A program gets it by this folder on its ``PYTHONPATH``: :func:`support.mac.facts.mac_environment`.

Only coremltools and the two modules that look for Core ML are told that this is a Mac. Everything
else, such as what a record says about the machine, sees the system as it is.
"""
