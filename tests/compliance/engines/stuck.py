"""A step that reads nothing."""

import time

if __name__ == "__main__":
    time.sleep(30)
