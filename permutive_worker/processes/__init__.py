"""One run in several processes: the first deals out the files, supervises the others and speaks for all of them."""
