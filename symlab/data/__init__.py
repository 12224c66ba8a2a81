"""Images and texts: installed, from the folder SYMLAB_DATA, or downloaded."""
