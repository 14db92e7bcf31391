"""Files that hold arrays: numpy's own, the archive's UCR series, MNIST's idx, plain rows."""
