"""What a command would change in a spec, decided purely: from the object as it is to the patch and the words for it."""
