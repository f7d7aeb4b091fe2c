"""Flickr8k as published: Flicker8k_Dataset/ and Flickr8k_text/ with Flickr8k.token.txt."""

from captioning.data.layouts.tables import TableLayout


class Published(TableLayout):
    """Captions as `name.jpg#0<TAB>caption`; the split lists stand beside them."""

    caption_names = ("Flickr8k.token.txt",)
