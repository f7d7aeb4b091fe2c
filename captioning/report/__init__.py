"""Things to look at.

- `contact_sheet`: pictures with captions beneath on one page; as a program, pages one below the
  other.
- `attention`: where a decoder looked, over the picture, a panel a word.
- `page`: one HTML file with scores, curves and every image, where captions are judged by eye; its
  template, style and script are `page.html.j2`, `page.css` and `page.js`.
- `marks`: the judgements that the page exports, counted and drawn.

They take pictures and texts and know nothing of captioners; 5_test.py draws with them, and
3_BLEU.py writes the page, by way of `pipeline`. Tables of figures are `evaluation`'s, curves of a
training `runtime.training`'s.
"""
