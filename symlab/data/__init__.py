"""Images and texts: from installed packages, from the folder SYMLAB_DATA, or
downloaded.
"""
