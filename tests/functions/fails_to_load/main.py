print("loading")
import does_not_exist  # noqa: E402, F401
