"""Flickr8k as on Kaggle: Images/ and captions.txt; Flickr30k and others are offered like this."""

from captioning.data.layouts.tables import TableLayout


class Kaggle(TableLayout):
    """Captions as `image,caption`, or any other table of names and captions."""

    caption_names = ("captions.txt",)
