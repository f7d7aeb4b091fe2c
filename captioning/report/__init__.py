"""Things to look at.

- `contact_sheet`: pictures with captions beneath on one page; as a program, pages one below the
  other.

It takes pictures and texts and knows nothing of captioners; 5_test.py draws with it by way of
`pipeline`. Tables of figures are `evaluation`'s, curves of a training `runtime.training`'s.
"""
