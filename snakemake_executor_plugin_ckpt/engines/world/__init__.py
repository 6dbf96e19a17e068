"""The private world in which a payload lives, whatever saves it: namespaces, a first process, a way to end it all."""
