"""Flickr30k: results_20130124.token as its authors offer it, or results.csv as on Kaggle.

Its pictures lie in flickr30k-images/ or flickr30k_images/. There are no splits: see `karpathy`.
"""

from pathlib import Path

from captioning.data.layouts.layout import first_existing
from captioning.data.layouts.tables import TableLayout

IMAGE_FOLDERS = ("flickr30k-images", "flickr30k_images")


class Flickr30k(TableLayout):
    """Captions as `name.jpg#0<TAB>caption`, or as `name.jpg| 0| caption` below a header."""

    caption_names = ("results_20130124.token", "results.csv")

    @property
    def image_folder(self) -> Path | None:
        """The folder of pictures, under the names above or under those of every layout."""
        return first_existing(self.folder / n for n in IMAGE_FOLDERS) or super().image_folder
