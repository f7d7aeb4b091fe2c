"""What every program needs and nothing that knows of captions.

- `errors`, `console`, `files`: one sentence instead of a traceback, progress and exit codes,
  writing that an interruption cannot spoil.
- `registry`, `settings`: things chosen by name, and hyper-parameters set by name.
- `training`, `optimizers`: Keras's `fit`, resumable, and Adam as it is defined.
- `shared_arrays`: arrays that other processes fill. `versions`: what a result depends on.
"""
