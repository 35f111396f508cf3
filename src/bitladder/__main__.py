"""``python -m bitladder`` is ``bitladder``."""

from bitladder.cli import main

if __name__ == "__main__":
    main()
