"""Folders of pictures: found, judged by their headers, decoded."""
