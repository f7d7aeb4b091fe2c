"""Things to look at.

- `contact_sheet`: pictures with captions beneath on one page; as a program, pages one below the
  other.
- `attention`: where a decoder looked, over the picture, a panel a word.

They take pictures and texts and know nothing of captioners; 5_test.py draws with them by way of
`pipeline`. Tables of figures are `evaluation`'s, curves of a training `runtime.training`'s.
"""
