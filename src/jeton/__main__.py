"""`python -m jeton`, and `torchrun -m jeton`."""

from jeton.cli import main

if __name__ == "__main__":
    main()
