"""Methods for one kind of machine. They stand above cells and stacks, and are imported only when
they are asked for."""
