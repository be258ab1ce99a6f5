import sibling


def inner():
    sibling.fail()


def main(req, res):
    print("before")
    inner()
