"""The runners shipped with latbench: one module or package per runtime."""
