"""Images: multipage TIFF and folders of pictures."""
