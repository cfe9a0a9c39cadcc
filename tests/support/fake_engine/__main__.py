"""`python -m tests.support.fake_engine`."""

from tests.support.fake_engine.process import main

if __name__ == "__main__":
    main()
